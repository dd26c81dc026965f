/*
 * func_date.c - parts of dates, in UTC, of values in seconds since 1970 (proleptic Gregorian calendar; Howard
 * Hinnant, "chrono-Compatible Low-Level Date Algorithms").
 */
#include "tsdb/query/func.h"

#include <math.h>

struct civil {
    int64_t year;
    int month, day; /* from 1 */
    int weekday;    /* 0: Sunday */
    int yearday;    /* from 1 */
    int hour, minute;
};

static bool is_leap(int64_t year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

/* Counts days from 1 March of the year 0, so that the leap day ends a year; eras are 400 years, 146097 days.
 */
static struct civil civil_of(int64_t seconds)
{
    int64_t days = floor_div(seconds, 86400), second = seconds - days * 86400;
    int64_t shifted = days + 719468, era = floor_div(shifted, 146097), of_era = shifted - era * 146097;
    int64_t year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100); /* 0: 1 March */
    int64_t month = (5 * of_year + 2) / 153;                                              /* 0: March */
    struct civil civil = {.year = era * 400 + year_of_era + (month >= 10)};
    civil.day = (int)(of_year - (153 * month + 2) / 5 + 1);
    civil.month = (int)(month < 10 ? month + 3 : month - 9);
    civil.weekday = (int)(days + 4 - floor_div(days + 4, 7) * 7); /* 1 January 1970 was a Thursday */
    civil.yearday = (int)(month >= 10 ? of_year - 305 : of_year + 60 + is_leap(civil.year));
    civil.hour = (int)(second / 3600);
    civil.minute = (int)(second / 60 % 60);
    return civil;
}

static int days_in_month(const struct civil *civil)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return civil->month == 2 && is_leap(civil->year) ? 29 : days[civil->month - 1];
}

/* c: the date of the value, cut to whole seconds; beyond what 64 bits of days can mean there is no date. */
#define DATE(name, part)                                                                                     \
    static void apply_##name(const struct ts_grid *grid, double *values, const double *const *params)        \
    {                                                                                                        \
        (void)params;                                                                                        \
        for (size_t i = 0; i < grid->n; i++) {                                                               \
            if (ts_is_absent(values[i]))                                                                     \
                continue;                                                                                    \
            if (!(fabs(values[i]) < 0x1p60)) {                                                               \
                values[i] = NAN;                                                                             \
                continue;                                                                                    \
            }                                                                                                \
            struct civil c = civil_of((int64_t)values[i]);                                                   \
            values[i] = (double)(part);                                                                      \
        }                                                                                                    \
    }

DATE(day_of_month, c.day)
DATE(day_of_week, c.weekday)
DATE(day_of_year, c.yearday)
DATE(days_in_month, days_in_month(&c))
DATE(hour, c.hour)
DATE(minute, c.minute)
DATE(month, c.month)
DATE(year, c.year)

static const struct ts_map_fn *date_fn(enum ts_func_id id)
{
    static const struct ts_map_fn fns[] = {
        {apply_day_of_month, 0}, {apply_day_of_week, 0}, {apply_day_of_year, 0}, {apply_days_in_month, 0},
        {apply_hour, 0},         {apply_minute, 0},      {apply_month, 0},       {apply_year, 0},
    };
    static const enum ts_func_id ids[] = {TS_FUNC_DAY_OF_MONTH,  TS_FUNC_DAY_OF_WEEK, TS_FUNC_DAY_OF_YEAR,
                                          TS_FUNC_DAYS_IN_MONTH, TS_FUNC_HOUR,        TS_FUNC_MINUTE,
                                          TS_FUNC_MONTH,         TS_FUNC_YEAR};
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++)
        if (ids[i] == id)
            return &fns[i];
    return NULL;
}

/* Without an argument: of the step's time. */
static kv_status make_date(struct ts_run *run, struct ts_grid grid, const struct ts_expr *call,
                           struct ts_operator **args, size_t n_args, struct ts_operator **out)
{
    const struct ts_map_fn *fn = date_fn(call->call.func->id);
    struct ts_operator *now = NULL;
    if (n_args > 0)
        return ts_op_map(run, grid, call, args[0], NULL, fn, out);
    kv_status rc = ts_op_time(run, grid, call, &now);
    if (rc < 0)
        return rc;
    rc = ts_op_map(run, grid, call, now, NULL, fn, out);
    if (rc < 0)
        ts_operator_close(now);
    return rc;
}

ts_func_maker ts_func_date_maker(enum ts_func_id id)
{
    return date_fn(id) ? make_date : NULL;
}

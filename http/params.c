#include "http/params.h"
#include "http/text.h"
#include "kvcore/base/number.h"
#include "tsdb/ts.h"

#include <math.h>

/* |seconds| * 1000 must stay well inside int64. */
#define SECONDS_MAX 9.2e15

static bool parse_seconds(kv_slice text, int64_t *ms)
{
    double seconds;
    size_t n = kv_double_parse(text, &seconds);
    if (n == 0 || n != text.len || !(fabs(seconds) < SECONDS_MAX))
        return false;
    *ms = (int64_t)llround(seconds * 1000);
    return true;
}

/* Exactly n digits off the front. */
static bool take_digits(kv_slice *text, size_t n, int *out)
{
    uint64_t v;
    if (text->len < n || !http_parse_uint(kv_slice_of(text->data, n), 9999, &v))
        return false;
    *out = (int)v;
    *text = kv_slice_from(*text, n);
    return true;
}

static bool take_char(kv_slice *text, char c)
{
    if (text->len == 0 || text->data[0] != (uint8_t)c)
        return false;
    *text = kv_slice_from(*text, 1);
    return true;
}

/* Days since 1970-01-01 of a date of the proleptic Gregorian calendar: whole 400-year eras of March-based years. */
static int64_t days_from_date(int year, int month, int day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = y / 400, of_era = y % 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static int days_in_month(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return days[month - 1] + (month == 2 && leap);
}

/* ".5", ".123456789": rounded down to ms. */
static bool take_fraction(kv_slice *text, int *ms)
{
    *ms = 0;
    if (!take_char(text, '.'))
        return true;
    size_t n = 0;
    for (int scale = 100; n < text->len && text->data[n] >= '0' && text->data[n] <= '9'; n++, scale /= 10)
        *ms += (text->data[n] - '0') * scale;
    *text = kv_slice_from(*text, n);
    return n > 0;
}

static bool take_zone(kv_slice *text, int *minutes_east)
{
    int hours, minutes;
    *minutes_east = 0;
    if (take_char(text, 'Z') || take_char(text, 'z'))
        return true;
    bool west = text->len && text->data[0] == '-';
    if (!take_char(text, '+') && !take_char(text, '-'))
        return false;
    if (!take_digits(text, 2, &hours) || !take_char(text, ':') || !take_digits(text, 2, &minutes))
        return false;
    *minutes_east = (hours * 60 + minutes) * (west ? -1 : 1);
    return hours < 24 && minutes < 60;
}

static bool parse_rfc3339(kv_slice text, int64_t *out)
{
    int year, month, day, hour, minute, second, ms, east;
    if (!take_digits(&text, 4, &year) || !take_char(&text, '-') || !take_digits(&text, 2, &month) ||
        !take_char(&text, '-') || !take_digits(&text, 2, &day))
        return false;
    if (!take_char(&text, 'T') && !take_char(&text, 't'))
        return false;
    if (!take_digits(&text, 2, &hour) || !take_char(&text, ':') || !take_digits(&text, 2, &minute) ||
        !take_char(&text, ':') || !take_digits(&text, 2, &second))
        return false;
    if (!take_fraction(&text, &ms) || !take_zone(&text, &east) || text.len)
        return false;
    if (month < 1 || month > 12 || day < 1 || day > days_in_month(year, month) || hour > 23 || minute > 59 ||
        second > 59)
        return false;
    int64_t seconds =
        days_from_date(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - east * 60;
    *out = seconds * 1000 + ms;
    return true;
}

kv_status http_parse_time(kv_slice text, int64_t *ms)
{
    return parse_seconds(text, ms) || parse_rfc3339(text, ms) ? KV_OK : KV_INVALID;
}

static bool parse_units(kv_slice text, int64_t *ms)
{
    static const struct {
        const char *name;
        int64_t ms;
    } units[] = {{"y", 31536000000}, {"w", 604800000}, {"d", 86400000}, {"h", 3600000},
                 {"m", 60000},       {"s", 1000},      {"ms", 1}};
    enum { N = sizeof units / sizeof *units };
    size_t next = 0; /* units before it were used or passed over */
    int64_t total = 0;
    if (text.len == 0)
        return false;
    while (text.len) {
        size_t digits = 0;
        uint64_t v;
        while (digits < text.len && text.data[digits] >= '0' && text.data[digits] <= '9')
            digits++;
        if (!http_parse_uint(kv_slice_of(text.data, digits), INT64_MAX, &v))
            return false;
        text = kv_slice_from(text, digits);
        size_t letters = 0;
        while (letters < text.len && text.data[letters] >= 'a' && text.data[letters] <= 'z')
            letters++;
        kv_slice name = {text.data, letters};
        while (next < N && !kv_slice_equal(name, kv_slice_str(units[next].name)))
            next++;
        int64_t part;
        if (next == N || __builtin_mul_overflow((int64_t)v, units[next].ms, &part) ||
            __builtin_add_overflow(total, part, &total))
            return false;
        next++;
        text = kv_slice_from(text, letters);
    }
    *ms = total;
    return true;
}

kv_status http_parse_duration(kv_slice text, int64_t *ms)
{
    return parse_seconds(text, ms) || parse_units(text, ms) ? KV_OK : KV_INVALID;
}

static kv_status invalid(struct kv_err *err, const char *name, kv_slice value, const char *what)
{
    return kv_fail(err, KV_INVALID, 0, "invalid parameter \"%s\": cannot parse \"%.*s\" to a valid %s", name,
                   value.len > 80 ? 80 : (int)value.len, (const char *)value.data, what);
}

kv_status http_param_time(struct http_request *request, const char *name, int64_t otherwise, int64_t *ms,
                          struct kv_err *err)
{
    kv_slice value;
    kv_status rc = http_request_param(request, name, &value, err);
    *ms = otherwise;
    if (rc < 0 || value.len == 0)
        return rc;
    return http_parse_time(value, ms) < 0 ? invalid(err, name, value, "timestamp") : KV_OK;
}

kv_status http_param_duration(struct http_request *request, const char *name, int64_t otherwise, int64_t *ms,
                              struct kv_err *err)
{
    kv_slice value;
    kv_status rc = http_request_param(request, name, &value, err);
    *ms = otherwise;
    if (rc < 0 || value.len == 0)
        return rc;
    return http_parse_duration(value, ms) < 0 ? invalid(err, name, value, "duration") : KV_OK;
}

kv_status http_param_limit(struct http_request *request, const char *name, uint64_t otherwise,
                           uint64_t *limit, struct kv_err *err)
{
    kv_slice value;
    kv_status rc = http_request_param(request, name, &value, err);
    *limit = otherwise;
    if (rc < 0 || value.len == 0)
        return rc;
    if (value.data[0] == '-' && http_parse_uint(kv_slice_from(value, 1), INT64_MAX, limit))
        return kv_fail(err, KV_INVALID, 0, "invalid parameter \"%s\": limit must be non-negative", name);
    return http_parse_uint(value, INT64_MAX, limit) ? KV_OK : invalid(err, name, value, "limit");
}

kv_status http_param_bool(struct http_request *request, const char *name, bool *value, struct kv_err *err)
{
    kv_slice text;
    kv_status rc = http_request_param(request, name, &text, err);
    if (rc < 0)
        return rc;
    *value = kv_slice_equal(text, KV_STR("true")) || kv_slice_equal(text, KV_STR("1"));
    if (!*value && text.len && !kv_slice_equal(text, KV_STR("false")) && !kv_slice_equal(text, KV_STR("0")))
        return invalid(err, name, text, "boolean");
    return KV_OK;
}

kv_status http_parse_rule(kv_slice text, struct ts_retention_rule *rule)
{
    size_t equals = 0;
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] == '=')
            equals = i;
    kv_slice time = kv_slice_from(text, equals + 1 < text.len ? equals + 1 : text.len);
    rule->selector = kv_slice_of(text.data, equals);
    rule->keep_ms = INT64_MAX;
    if (equals == 0 || !http_utf8_valid(text))
        return KV_INVALID;
    if (!kv_slice_equal(time, KV_STR("inf")) && http_parse_duration(time, &rule->keep_ms) != KV_OK)
        return KV_INVALID;
    return rule->keep_ms > 0 ? KV_OK : KV_INVALID;
}

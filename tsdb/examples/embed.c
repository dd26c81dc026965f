/* embed.c - a store of samples inside a program: open, append, ask in PromQL, close. Usage: embed [DIR] */
#include <stdio.h>
#include <time.h>
#include <tsdb/ts.h>

int main(int argc, char **argv)
{
    const struct ts_label labels[] = {{KV_STR("__name__"), KV_STR("celsius")},
                                      {KV_STR("room"), KV_STR("kitchen")}};
    const int64_t now_ms = (int64_t)time(NULL) * 1000;
    const struct ts_query_options at_now = {.end_ms = now_ms};
    struct kv_env *env = NULL;
    struct ts_db *db = NULL;
    struct ts_appender *appender = NULL;
    struct ts_append_result stored;
    struct ts_result *answer = NULL;
    struct ts_series_points series;
    struct ts_query_err why = {0};
    struct kv_err err = {0};
    kv_status rc;

    KV_TRY(kv_env_open(NULL, &env, &err));
    KV_TRY(ts_open(env, argc > 1 ? argv[1] : "embed.ts", NULL, &db, &err));
    KV_TRY(ts_appender_new(db, &appender));
    for (int minute = 9; minute >= 0; minute--)
        KV_TRY(ts_append(appender, labels, 2, now_ms - minute * 60000, 20.5 - minute, &err));
    KV_TRY(ts_commit(appender, &stored, &err)); /* on disk */
    KV_TRY(ts_query(db, KV_STR("max_over_time(celsius[10m])"), &at_now, &answer, &why));
    for (size_t i = 0; i < ts_result_count(answer); i++) {
        ts_result_series(answer, i, &series);
        printf("%.*s=%.*s %g\n", KV_ARG(series.labels[0].name), KV_ARG(series.labels[0].value),
               series.values[0]);
    }
out:
    if (rc < 0)
        fprintf(stderr, "embed: %s: %s%s\n", kv_status_text(rc), err.text, why.text);
    ts_result_free(answer);
    ts_appender_free(appender);
    if (ts_close(db, &err) < 0)
        fprintf(stderr, "embed: closing: %s\n", err.text);
    kv_env_close(env);
    return rc < 0;
}

/* Backups over HTTP: into the configured directory, with a status; as a stream; what is refused. */
#include "tests/support/http_world.h"

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct http_world world;

static void begin(void)
{
    http_world_open(&world, NULL, KV_THREADS_NONE);
    world.app.backup_dir = "backups";
    cr_assert_eq(http_world_call(&world, "POST /write", NULL, KV_STR("m,host=a v=1.5\nm,host=b v=2")), 204);
}
static void end(void)
{
    http_world_close(&world);
}
TestSuite(backup_api, .init = begin, .fini = end);

static const char *call(const char *target, unsigned status)
{
    unsigned got = http_world_call(&world, target, NULL, (kv_slice){0});
    cr_assert_eq(got, status, "%s: %u %s", target, got, http_world_text(&world));
    return http_world_text(&world);
}

/* Waits for the backup under way; its status. */
static const char *wait_for_it(void)
{
    for (int i = 0; i < 1000; i++) {
        const char *text = call("GET /api/v1/status/backup", 200);
        if (!strstr(text, "\"state\":\"running\""))
            return text;
        usleep(5000);
    }
    cr_assert_fail("no end of the backup");
    return "";
}

static const char *backup(const char *query)
{
    char target[100];
    snprintf(target, sizeof target, "POST /api/v1/admin/backup%s", query);
    (void)call(target, 202);
    return wait_for_it();
}

/* How many series the newest backup (or archive) has. */
static uint64_t series_in(const struct kv_restore_options *options, const char *path)
{
    struct kv_err err = {0};
    struct ts_db *copy;
    struct ts_stats stats;
    cr_assert_eq(ts_restore(world.env, path, options, NULL, &err), KV_OK, "%s", err.text);
    cr_assert_eq(ts_open(world.env, path, NULL, &copy, &err), KV_OK, "%s", err.text);
    ts_stats(copy, &stats);
    cr_assert_eq(ts_close(copy, &err), KV_OK);
    return stats.series;
}

Test(backup_api, is_made_in_the_background_and_its_status_shows_all_there_are)
{
    const char *text = call("GET /api/v1/status/backup", 200);
    cr_assert_str_eq(
        text,
        "{\"status\":\"success\",\"data\":{\"state\":\"idle\",\"directory\":\"backups\",\"backups\":[]}}");
    text = backup("");
    cr_assert(strstr(text, "\"state\":\"done\""), "%s", text);
    cr_assert(strstr(text, "\"backup\":{\"number\":1,"), "%s", text);
    text = backup("?flush_head=1");
    cJSON *json = cJSON_Parse(text);
    const cJSON *data = cJSON_GetObjectItem(json, "data"), *all = cJSON_GetObjectItem(data, "backups");
    cr_assert_eq(cJSON_GetArraySize(all), 2, "%s", text);
    cr_assert_eq(cJSON_GetObjectItem(data, "bytesDone")->valuedouble,
                 cJSON_GetObjectItem(data, "bytes")->valuedouble);
    cr_assert_eq(cJSON_GetObjectItem(cJSON_GetArrayItem(all, 1), "number")->valueint, 2);
    cJSON_Delete(json);
    const struct kv_repository repo = {.path = "backups"};
    cr_assert_eq(series_in(&(struct kv_restore_options){.repository = &repo}, "copy"), 2);
    cr_assert_eq(world.metrics.backups, 2);
}

Test(backup_api, keeps_as_many_as_are_asked_for)
{
    for (int i = 0; i < 3; i++)
        (void)backup("?keep=2");
    const char *text = call("GET /api/v1/status/backup", 200);
    cr_assert(!strstr(text, "{\"number\":1,") && strstr(text, "{\"number\":2,") &&
                  strstr(text, "{\"number\":3,"),
              "%s", text);
    world.app.backup_keep = 1;
    text = backup("");
    cr_assert(!strstr(text, "{\"number\":3,") && strstr(text, "{\"number\":4,"), "%s", text);
}

Test(backup_api, refusals_say_why)
{
    (void)call("POST /api/v1/admin/backup?keep=x", 400);
    (void)call("POST /api/v1/admin/backup?keep=5000000000", 400);
    world.app.backup_dir = "store"; /* the store itself */
    const char *text = backup("");
    cr_assert(strstr(text, "\"state\":\"failed\"") && strstr(text, "\"error\":\""), "%s", text);
    cr_assert_eq(world.metrics.backups_failed, 1);
    world.app.backup_dir = "";
    cr_assert(strstr(call("POST /api/v1/admin/backup", 400), "--backup-dir"));
    cr_assert(strstr(call("GET /api/v1/status/backup", 400), "--backup-dir"));
}

/* ---- archives ------------------------------------------------------------------------------------------------------- */

static kv_status read_bytes(void *ctx, uint8_t *into, size_t len, size_t *got, struct kv_err *err)
{
    kv_slice *left = ctx;
    (void)err;
    *got = len < left->len ? len : left->len;
    memcpy(into, left->data, *got);
    *left = kv_slice_from(*left, *got);
    return KV_OK;
}

Test(backup_api, an_archive_is_one_stream)
{
    (void)call("POST /api/v1/admin/backup/archive?flush_head=true", 200);
    kv_slice bytes = kv_buf_slice(&world.body);
    const struct kv_source source = {read_bytes, &bytes};
    cr_assert_eq(series_in(&(struct kv_restore_options){.archives = &source, .n_archives = 1}, "copy"), 2);
    cr_assert_eq(world.metrics.backups, 1);
}

/* Random bits: an archive of more than is made ahead of its reader. */
static void fill(void)
{
    enum { ROWS = 10, SAMPLES = 100000 };
    struct ts_appender *appender;
    struct ts_append_result result;
    struct kv_err err = {0};
    uint64_t x = 88172645463325252u;
    int64_t now = kv_clock_wall_ms(kv_clock_system());
    cr_assert_eq(ts_appender_new(world.app.db, &appender), KV_OK);
    for (int row = 0; row < ROWS; row++) {
        char name[2] = {(char)('a' + row), 0};
        const struct ts_label labels[] = {{KV_STR("__name__"), kv_slice_str(name)}};
        for (int i = 0; i < SAMPLES; i++) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            cr_assert_eq(ts_append(appender, labels, 1, now - SAMPLES + i, (double)x, &err), KV_OK);
        }
        cr_assert_eq(ts_commit(appender, &result, &err), KV_OK, "%s", err.text);
        cr_assert_eq(result.accepted, SAMPLES);
    }
    ts_appender_free(appender);
}

Test(backup_api, a_reader_that_goes_away_ends_the_backup, .timeout = 60)
{
    struct raw_reply reply = {0};
    static const char request[] =
        "POST /api/v1/admin/backup/archive HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
    fill();
    uint16_t port = http_world_serve(&world, NULL);
    int fd = raw_connect(port);
    raw_send(fd, request, sizeof request - 1);
    char some[1000];
    cr_assert_gt(read(fd, some, sizeof some), 0);
    close(fd);
    raw_request(port, "POST /api/v1/admin/backup/archive", "", (kv_slice){0}, &reply);
    cr_assert_eq(reply.status, 200);
    cr_assert_gt(reply.body.len, 6 << 20);
    kv_slice bytes = kv_buf_slice(&reply.body);
    const struct kv_source source = {read_bytes, &bytes};
    cr_assert_eq(series_in(&(struct kv_restore_options){.archives = &source, .n_archives = 1}, "copy"), 12);
    raw_reply_release(&reply);
}

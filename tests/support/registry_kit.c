#include "tests/support/registry_kit.h"

#include "kvcore/base/assert.h"
#include "kvcore/os/vfs.h"

static void must(kv_status rc)
{
    KV_ASSERT(rc == KV_OK);
}

static void kit_apply(void *ctx, uint64_t seq, kv_slice record, void *commit_ctx)
{
    struct registry_kit *kit = ctx;
    (void)commit_ctx;
    must(ts_registry_apply(kit->registry, seq, &record));
    KV_ASSERT(record.len == 0);
}

static void open_db(struct registry_kit *kit)
{
    struct kv_space_options spaces[TS_SPACES];
    struct kv_options options = {
        .spaces = spaces, .n_spaces = TS_SPACES, .apply = kit_apply, .apply_ctx = kit};
    ts_spaces_fill(spaces, NULL);
    must(kv_open(kit->env, "db", &options, &kit->db, NULL));
    must(ts_registry_open(kit->db, &kit->options, &kit->registry, NULL));
}

static void close_db(struct registry_kit *kit)
{
    ts_registry_close(kit->registry);
    must(kv_close(kit->db, NULL));
}

void registry_kit_open(struct registry_kit *kit)
{
    kit->vfs = kv_vfs_mem_new();
    KV_ASSERT(kit->vfs);
    struct kv_env_options options = {.vfs = kit->vfs, .threads = KV_THREADS_NONE};
    must(kv_env_open(&options, &kit->env, NULL));
    open_db(kit);
}

void registry_kit_close(struct registry_kit *kit)
{
    close_db(kit);
    kv_env_close(kit->env);
    kv_vfs_mem_free(kit->vfs);
}

void registry_kit_reopen(struct registry_kit *kit)
{
    close_db(kit);
    open_db(kit);
}

void registry_kit_reopen_registry(struct registry_kit *kit)
{
    ts_registry_close(kit->registry);
    must(ts_registry_open(kit->db, &kit->options, &kit->registry, NULL));
}

struct given {
    const struct ts_label *labels;
    size_t n;
};

static kv_status give_labels(void *ctx, const struct ts_row *row, struct ts_label_sink *sink)
{
    const struct given *given = ctx;
    kv_status rc = KV_OK;
    (void)row;
    for (size_t i = 0; rc == KV_OK && i < given->n; i++)
        rc = sink->add(sink, given->labels[i].name, given->labels[i].value);
    return rc;
}

kv_status registry_kit_resolve(struct ts_resolver *resolver, const struct ts_label *labels, size_t n,
                               char variant, uint64_t *ref, struct ts_refusal *why)
{
    struct given given = {labels, n};
    struct kv_buf identity = {0};
    struct ts_refusal ignored;
    kv_status rc =
        kv_buf_append_byte(&identity, (uint8_t)variant); /* tests fail allocations: reported as any other */
    if (rc == KV_OK)
        rc = ts_labels_encode(labels, n, &identity);
    struct ts_row row = {.protocol = TS_PROTOCOL_LABELS,
                         .position = 1,
                         /* the second piece: a first one may not be reused with other bytes within a
                          * request */
                         .identity = {KV_STR("kit"), kv_buf_slice(&identity)},
                         .labels = give_labels,
                         .labels_ctx = &given};
    if (rc == KV_OK)
        rc = ts_resolve(resolver, &row, ref, why ? why : &ignored, NULL);
    kv_buf_release(&identity);
    return rc;
}

struct commit {
    struct ts_resolver *resolver;
    struct kv_buf section;
};

static kv_status prepare(void *ctx, uint64_t seq, struct kv_batch *batch, kv_slice *record)
{
    struct commit *c = ctx;
    kv_status rc = ts_resolver_prepare(c->resolver, seq, batch, &c->section);
    *record = kv_buf_slice(&c->section);
    return rc;
}

static void undo(void *ctx)
{
    ts_resolver_undo(((struct commit *)ctx)->resolver);
}

void registry_kit_commit(struct registry_kit *kit, struct ts_resolver *resolver, struct kv_batch *batch)
{
    struct commit c = {.resolver = resolver};
    struct kv_batch *own = NULL;
    if (!batch)
        must(kv_batch_new(&own));
    must(ts_resolver_stage(resolver));
    struct kv_commit_options options = {.prepare = prepare, .undo = undo, .ctx = &c};
    must(kv_commit(kit->db, batch ? batch : own, &options, NULL, NULL));
    kv_batch_free(own);
    kv_buf_release(&c.section);
}

size_t registry_kit_labels(const char *text, struct ts_label *labels)
{
    size_t n = 0;
    for (const char *p = text; *p; n++) {
        size_t len = strcspn(p, " ");
        const char *equals = memchr(p, '=', len);
        KV_ASSERT(n < 16 && (n == 0) == (equals == NULL));
        labels[n] = equals ? (struct ts_label){kv_slice_of(p, (size_t)(equals - p)),
                                               kv_slice_of(equals + 1, len - (size_t)(equals - p) - 1)}
                           : (struct ts_label){TS_METRIC_NAME, kv_slice_of(p, len)};
        p += len + (p[len] == ' ');
    }
    KV_ASSERT(ts_labels_sort(labels, n));
    return n;
}

uint64_t registry_kit_add(struct registry_kit *kit, const char *text)
{
    struct ts_label labels[16];
    struct ts_resolver *resolver = NULL;
    uint64_t ref;
    must(ts_resolver_new(kit->registry, &resolver));
    must(registry_kit_resolve(resolver, labels, registry_kit_labels(text, labels), 'a', &ref, NULL));
    registry_kit_commit(kit, resolver, NULL);
    ref = ts_resolver_ref(resolver, ref);
    ts_resolver_free(resolver);
    return ref;
}

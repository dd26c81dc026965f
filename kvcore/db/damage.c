/*
 * Damage stays where it is: a file that cannot be opened, or that a merge could not read, is put aside, and everything
 * else goes on. What asks for its keys is answered KV_CORRUPT.
 *
 * (1) At open: a table or segment that is damaged, missing or another file gets a stand-in with what the manifest knows.
 * (2) A table aside is on level 0 in the manifest, where tables may overlap, and on no level in the tree: merges put what
 *     they like over and under its range. Versions decide, so all of it is right again when the file is.
 * (3) Keys and versions of the stand-in count like any other's: no deletion goes that may hide something in it. Its
 *     pointers are unknown, so no segment of the value log goes. Range deletions stay until it has gone, too.
 * (4) It goes as a whole: under a range deletion or drop that covers it, or by kv_repair.
 */
#include "kvcore/db/db.h"
#include "kvcore/sst/attrs.h"

#include <inttypes.h>

static void tell_table(struct kv_db *db, const char *space, kv_slice smallest, kv_slice largest,
                       uint64_t number, const char *why)
{
    char from[64], to[64];
    kv_logf(
        &db->env->log, KV_LOG_ERROR, "table_put_aside",
        "path=%s file=%06" PRIu64 ".tbl space=%s smallest=%s largest=%s what=%s help=%s", KV_LOGQ(db->path),
        number, space, kv_log_quote(smallest, from, sizeof from), kv_log_quote(largest, to, sizeof to),
        KV_LOGQ(why),
        "\"reads of these keys fail; put the file back from a backup and open again, or run kvtool repair\"");
}

kv_status kv_db_open_table_or_aside(struct kv_db *db, const struct kv_table_meta *meta, struct kv_table **out,
                                    struct kv_err *err)
{
    struct kv_err why = {0};
    kv_status rc = kv_db_open_table(db, meta, out, &why);
    if (rc == KV_OK)
        return rc;
    if (rc != KV_CORRUPT) { /* missing is that, too */
        kv_err_copy(err, &why);
        return rc;
    }
    struct kv_table_properties known = {.smallest = meta->smallest,
                                        .largest = meta->largest,
                                        .space = meta->space,
                                        .version_min = meta->version_min,
                                        .version_max = meta->version_max,
                                        .entries = meta->entries,
                                        .deletes = meta->deletions,
                                        .keys = meta->entries,
                                        .file_bytes = meta->bytes};
    char name[32];
    memcpy(known.uid, meta->uid, sizeof known.uid);
    kv_file_name(name, meta->number, KV_NAME_TABLE);
    struct kv_table_open_options options = {.name = name,
                                            .cache = db->env->cache,
                                            .log = &db->env->log,
                                            .gone = kv_obsolete_gone,
                                            .gone_ctx = db,
                                            .number = meta->number};
    rc = kv_table_open_damaged(&options, &known, why.text, out, err);
    if (rc == KV_OK)
        tell_table(db, db->spaces[meta->space].name, meta->smallest, meta->largest, meta->number, why.text);
    return rc;
}

kv_status kv_db_open_segment_or_damaged(struct kv_db *db, const struct kv_segment_meta *meta,
                                        struct kv_segment **out, struct kv_err *err)
{
    struct kv_err why = {0};
    kv_status rc = kv_db_open_segment(db, meta, out, &why);
    if (rc == KV_OK)
        return rc;
    if (rc != KV_CORRUPT) { /* missing is that, too */
        kv_err_copy(err, &why);
        return rc;
    }
    char name[32];
    kv_file_name(name, meta->number, KV_NAME_SEGMENT);
    struct kv_segment_open_options options = {.name = name,
                                              .cache = db->env->cache,
                                              .log = &db->env->log,
                                              .uid = meta->uid,
                                              .file_bytes = meta->bytes,
                                              .number = meta->number,
                                              .gone = kv_obsolete_segment_gone,
                                              .gone_ctx = db};
    rc = kv_segment_open_damaged(&options, why.text, out, err);
    if (rc == KV_OK)
        kv_logf(&db->env->log, KV_LOG_ERROR, "segment_put_aside", "path=%s file=%s what=%s help=%s",
                KV_LOGQ(db->path), name, KV_LOGQ(why.text),
                "\"reads of its values fail; put the file back from a backup and open again, or run kvtool "
                "repair\"");
    return rc;
}

static kv_status aside_add(struct kv_db *db, const struct kv_tree_item *item, const char *why,
                           struct kv_edit *edit, struct kv_buf *moves)
{
    struct kv_tree_move move = {item->number, KV_LEVEL_ASIDE};
    const struct kv_table_properties *p = item->properties;
    tell_table(db, db->spaces[p->space].name, p->smallest, p->largest, item->number, why);
    if (item->level > 0)
        kv_edit_move_table(edit, item->number, 0);
    return kv_buf_append(moves, kv_slice_of(&move, sizeof move));
}

kv_status kv_db_put_aside(struct kv_db *db, struct kv_view *view, const struct kv_cut *inputs)
{
    struct kv_edit edit = {0};
    struct kv_buf moves = {0};
    kv_status rc = KV_OK;
    for (size_t i = 0; i < inputs->n_runs; i++)
        for (size_t k = 0; k < inputs->runs[i].n && rc == KV_OK; k++) {
            const struct kv_tree_item *item = &inputs->runs[i].items[k];
            struct kv_err why = {0};
            rc = kv_table_verify(item->table, &why);
            if (rc == KV_OK)
                rc = kv_values_verify_table(&view->version->values, item->table, NULL, &why);
            if (rc == KV_CORRUPT)
                rc = aside_add(db, item, why.text, &edit, &moves);
        }
    struct kv_change change = {.edit = &edit,
                               .moves = (const struct kv_tree_move *)(const void *)moves.data,
                               .n_moves = moves.len / sizeof(struct kv_tree_move)};
    if (rc == KV_OK)
        rc = change.n_moves ? kv_db_change(db, &change, NULL) : KV_NOT_FOUND;
    kv_edit_release(&edit);
    kv_buf_release(&moves);
    return rc;
}

kv_status kv_db_aside_in(struct kv_db *db, uint32_t space, kv_slice lower, kv_slice upper, struct kv_err *err)
{
    uint64_t visible;
    struct kv_view *view = kv_view_pin(db, &visible);
    const struct kv_tree_item *item = kv_tree_aside(&view->version->trees[space], lower, upper);
    kv_status rc = KV_OK;
    if (item) {
        const char *why = kv_table_damage(item->table);
        rc = kv_fail(err, KV_CORRUPT, 0, "space %s: table %06" PRIu64 ".tbl lies aside: %s",
                     db->spaces[space].name, item->number,
                     why ? why : "a merge met damage in it, or in values it points at");
    }
    kv_view_unref(view);
    return rc;
}

/*
 * db.h - an open database, seen from inside kvcore/db. The public half is kv.h; the walk through it:
 * kvcore/README.md.
 *
 * Locks, outermost first (outside of all a follower's own, which a refresh runs under); none is held while the lead of the committer is waited for (kv_committer_*, except
 * from inside its hooks):
 *   schedule.mutex  maintenance: a piece of it runs under it
 *   flush_mutex     one memtable at a time becomes tables
 *   merge_mutex     what merges have claimed; not held while they work
 *   manifest_mutex  manifest, making and installing versions
 *   view_mutex      the pointer to the current view, and who waits for it to change
 *   obsolete_mutex  files to remove once nobody reads them
 * flush_mutex and merge_mutex are never held together.
 */
#ifndef KV_DB_H
#define KV_DB_H

#include "kvcore/db/bans.h"
#include "kvcore/db/commit.h"
#include "kvcore/db/env.h"
#include "kvcore/db/health.h"
#include "kvcore/db/manifest.h"
#include "kvcore/db/memtable.h"
#include "kvcore/db/metrics.h"
#include "kvcore/db/range_plan.h"
#include "kvcore/db/retention_clock.h"
#include "kvcore/db/schedule.h"
#include "kvcore/db/version.h"
#include "kvcore/db/watermark.h"

/* Memtables waiting for a flush before commits wait too; all memtables, whoever made them. */
enum { KV_IMMUTABLE_MAX = 3, KV_MEMTABLES_MAX = 32 };

/* What a reader pins: the memtables and the tree, at one moment. Immutable, counted. */
struct kv_view {
    _Atomic uint32_t refs;
    struct kv_version *version;
    struct kv_db *db; /* once it was replaced: in its views_left, until the last reader is gone; view_mutex */
    struct kv_list left;
    uint64_t left_ns; /* since when, by the monotonic clock */
    size_t n_mem;
    struct kv_memtable *mem[]; /* newest first; mem[0] is the one being written */
};

struct kv_db {
    struct kv_env *env;
    char *path;
    struct kv_options options; /* resolved; its spaces pointer is not used after open */
    struct kv_dir *dir;
    struct kv_lease *lease;
    struct kv_space spaces[KV_SPACES_MAX]; /* by id */
    uint32_t n_spaces;
    uint8_t ids[KV_SPACES_MAX]; /* id of each declared space */
    uint32_t n_declared;
    uint8_t uuid[KV_UUID_LEN];
    uint64_t owner_epoch; /* of this open */

    struct kv_log *log;
    struct kv_committer *committer; /* NULL: read-only */
    struct kv_follow *follow;       /* NULL: no follower */
    _Atomic uint64_t
        recovered_seq; /* what is visible without a committer; a follower's grows, under view_mutex */

    kv_mutex flush_mutex, merge_mutex, manifest_mutex, view_mutex, obsolete_mutex, checkpoint_mutex;
    kv_cond view_changed, claims_changed;
    struct kv_claim *claims; /* merges under way (pick.h) */
    struct kv_manifest manifest;
    struct kv_view *view;
    struct kv_memtable *
        active; /* view->mem[0], which only the leader (or recovery) replaces: it reads this without a lock */
    uint64_t active_log_at; /* log position (kv_log_stats.bytes_ever) when the active memtable got its first
                                entry; leader only */
    /* What deletions in the active memtable hide in tables, in bytes, about; leader only. */
    uint64_t active_hides[KV_SPACES_MAX];
    _Atomic uint64_t mean_bytes[KV_SPACES_MAX]; /* of an entry in tables; 0: not asked for */
    _Atomic uint64_t hides_max[KV_SPACES_MAX];  /* past this the active memtable is flushed early */
    struct kv_list views_left;                  /* replaced views that are still read; view_mutex */
    uint64_t flush_failures;                    /* grows with each failed flush; view_mutex */
    struct kv_err work_err;           /* of the last failed flush or merge; code KV_OK: none; view_mutex */
    _Atomic uint64_t slow_ns_per_kib; /* what commits pay while merges are behind; 0: nothing */
    uint64_t slow_owed_ns;            /* and have not paid yet; leader only */
    _Atomic bool merging_stopped;     /* a merge met damage: no more of them by themselves */
    _Atomic bool ready;               /* opened: background work may begin */
    _Atomic bool closing;             /* merges stop early */
    bool recovering;                  /* replay: memtables are switched without a committer */
    uint64_t *obsolete;               /* table numbers to remove when their last reader is gone */
    size_t n_obsolete, obsolete_reserved, obsolete_capacity;
    _Atomic uint64_t pins; /* snapshots, iterators, cursors, bulk loads: must be 0 at close */

    struct kv_env_job flush_job, merge_job;
    struct kv_list watches;        /* struct kv_watch */
    struct kv_watermark watermark; /* of read-write transactions */
    struct kv_bans bans;
    struct kv_retention_clock retention;
    _Atomic bool step_told; /* a step of the wall clock was logged */
    struct kv_jobs jobs;
    struct kv_schedule schedule;
    struct kv_memory_tenant tenant;
    _Atomic bool give;     /* the memtable being written is to be flushed early, for others' sake */
    struct kv_reads reads; /* levels: KV_LEVELS_MAX a space, by id */
    struct kv_db_counters counters;
    _Atomic uint64_t merges_running;
    struct kv_level_counters level_counters[KV_SPACES_MAX][KV_LEVELS_MAX]; /* of the level written to */
};

/* Who wants to hear of commits: told by the leader, after they are visible and before they are answered, so it must not
 * wait. Added and removed inside kv_committer_exclusive, so the list needs no lock. */
struct kv_watch {
    struct kv_list link;
    void (*committed)(struct kv_watch *watch, const struct kv_pending *pending);
};

/* ---- view.c */

/* The current view, pinned, and the newest version visible in it. */
struct kv_view *kv_view_pin(struct kv_db *db, uint64_t *visible);
struct kv_view *kv_view_ref(struct kv_view *view);
void kv_view_unref(struct kv_view *view); /* NULL is fine; not under any lock */
/* The first view of a database being opened. Takes references of its own. */
KV_MUST kv_status kv_view_first(struct kv_version *version, struct kv_memtable *memtable,
                                struct kv_view **out);
/* A follower's next view: takes references of its own of version and memtables (newest first); visible is what was
 * committed until `seq`. */
KV_MUST kv_status kv_view_follow(struct kv_db *db, struct kv_version *version, struct kv_memtable *const *mem,
                                 size_t n_mem, uint64_t seq);
uint64_t kv_db_visible(struct kv_db *db);
/* Another handle on the same moment. */
KV_MUST kv_status kv_snapshot_share(const struct kv_snapshot *snapshot, struct kv_snapshot **out);
/* What a read at snapshot (NULL: now) pins, and the version it reads at. */
struct kv_view *kv_snapshot_view(struct kv_db *db, const struct kv_snapshot *snapshot, uint64_t *version);

/* What a transaction has written, on top of its snapshot: entries of one space whose versions go on behind the snapshot's. */
struct kv_overlay {
    struct kv_memtable *memtable;
    uint32_t space;   /* in the memtable */
    uint64_t version; /* what it got later is not seen */
};
/* kv_iter_open_with (which this is without an overlay). The iterator refers to the memtable. err (may be NULL) outlives it, and says
 * where a step failed. */
KV_MUST kv_status kv_iter_open_over(struct kv_db *db, uint32_t space, const struct kv_iter_options *options,
                                    const struct kv_overlay *overlay, struct kv_iter **out,
                                    struct kv_err *err);

/* The newest version at or below version_max of a range deletion that covers key; 0: none. */
uint64_t kv_view_range_newest(const struct kv_view *view, uint32_t space, kv_slice key, uint64_t version_max);
/* Does the view have any range deletion of the space at all? */
bool kv_view_has_ranges(const struct kv_view *view, uint32_t space);

/* The retention clock, in unix ms. */
int64_t kv_db_retention_now(struct kv_db *db);

/* One change of the tree: edit and picture together. */
struct kv_change {
    struct kv_edit *edit;
    const struct kv_tree_add *adds; /* the same as the edit says */
    size_t n_adds;
    const uint64_t *drops;
    size_t n_drops;
    const struct kv_tree_move *moves;
    size_t n_moves;
    struct kv_segment *const *segments; /* of the value log, that come */
    size_t n_segments;
    const struct kv_range_add *ranges; /* range deletions that come with the flushed memtable */
    size_t n_ranges;
    struct kv_memtable *flushed; /* leaves the view; NULL: none */
    uint64_t app_floor;          /* 0: stays */
};
/*
 * Commits the edit, with the log floors it allows, and makes the new picture current; then removes what
 * nobody needs any more. KV_CONFLICT: a table to drop or move is gone already; nothing happened. Any other failure:
 * nothing changed in memory; files of adds must be kept, for the edit may be found after a crash. Takes
 * manifest_mutex.
 */
KV_MUST kv_status kv_db_change(struct kv_db *db, struct kv_change *change, struct kv_err *err);
/* An edit without a change of the tree; adds the retention clock. Takes manifest_mutex. */
KV_MUST kv_status kv_db_commit_edit(struct kv_db *db, struct kv_edit *edit, struct kv_err *err);
/* Empty, with a filter for its size. */
KV_MUST kv_status kv_db_memtable_new(struct kv_db *db, struct kv_memtable **out);
/* Replaces the active memtable by an empty one. Leader (or recovery) only; everything in the old one is
 * synced first. */
KV_MUST kv_status kv_db_switch_memtable(struct kv_db *db, struct kv_err *err);

/* Every put below it is in tables; a memtable that is leaving (may be NULL) counted as such. */
uint64_t kv_db_log_floor(struct kv_db *db, const struct kv_memtable *leaving);

/* ---- flush.c */

/* kv_committer_hooks.room */
KV_MUST kv_status kv_db_room(void *ctx, uint64_t first_seq, size_t entries, size_t bytes, struct kv_err *err);
/* Turns the oldest immutable memtable into tables. KV_END: there is none. */
KV_MUST kv_status kv_flush_one(struct kv_db *db, struct kv_err *err);
bool kv_flush_pending(struct kv_db *db);
/* The memtable being written was asked for (memory.h): it is replaced, for a flush that then waits. KV_END: it was not. */
KV_MUST kv_status kv_flush_give(struct kv_db *db, struct kv_err *err);
/* The leader enters a deletion, or one of [key, upper), into the active memtable. */
void kv_db_note_deletion(struct kv_db *db, uint32_t space);
void kv_db_note_range(struct kv_db *db, uint32_t space, kv_slice lower, kv_slice upper);
/* kv_committer_hooks.published: a memtable whose deletions hide a tenth of a levelled space is replaced before it
 * is full, so that space comes back although nothing more is written. */
void kv_db_published(void *ctx, uint64_t seq);
/* A new picture of the tree: how much commits are to be slowed down by it, and what a deletion hides. */
void kv_db_press(struct kv_db *db, const struct kv_version *version);

/* ---- work.c */

/* One piece of what pick.h asks for. KV_END: there is none. */
KV_MUST kv_status kv_merge_one(struct kv_db *db, struct kv_err *err);

/* ---- obsolete.c */

/* Remembers that a table is no longer part of the database: its file goes with its last reader. Before the
 * reference is dropped. */
KV_MUST kv_status kv_obsolete_reserve(struct kv_db *db,
                                      size_t n);        /* room for so many adds, which then cannot fail */
void kv_obsolete_unreserve(struct kv_db *db, size_t n); /* those not used */
void kv_obsolete_add(struct kv_db *db, uint64_t number);
void kv_obsolete_gone(void *db, uint64_t number);         /* kv_table_open_options.gone */
void kv_obsolete_segment_gone(void *db, uint64_t number); /* kv_segment_open_options.gone */
/* Removes log files below the floors; a checkpoint under way puts it off. */
void kv_obsolete_trim_log(struct kv_db *db);
/* Lets go of log files that hold nothing needed any more, the one being written included if it is large. Not under a lock. */
void kv_obsolete_log(struct kv_db *db);
/* At open, once our own manifest is published: removes files that belong to nothing. */
KV_MUST kv_status kv_obsolete_sweep(struct kv_db *db, struct kv_err *err);

/* ---- damage.c */

/* As kv_db_open_table and kv_db_open_segment, with a stand-in (kv_table_damage) and a line in the log where the file is
 * damaged, missing, or not the one that was written. */
KV_MUST kv_status kv_db_open_table_or_aside(struct kv_db *db, const struct kv_table_meta *meta,
                                            struct kv_table **out, struct kv_err *err);
KV_MUST kv_status kv_db_open_segment_or_damaged(struct kv_db *db, const struct kv_segment_meta *meta,
                                                struct kv_segment **out, struct kv_err *err);
/* A merge of these tables met damage: those it lies in are put aside (version.h), so that merges go on without them.
 * KV_NOT_FOUND: none of them is damaged, or points at a value that cannot be read. */
KV_MUST kv_status kv_db_put_aside(struct kv_db *db, struct kv_view *view, const struct kv_cut *inputs);
/* KV_CORRUPT, naming it, if a table of [lower, upper) lies aside, else KV_OK. */
kv_status kv_db_aside_in(struct kv_db *db, uint32_t space, kv_slice lower, kv_slice upper,
                         struct kv_err *err);

/* ---- keys.c */

int64_t kv_db_data_key_ms(const struct kv_db *db); /* the age at which a data key is old */
/* Makes the next data key if there are keys and it is due. One that cannot be made now is made later. Not under
 * manifest_mutex. */
void kv_db_renew_data_key(struct kv_db *db);

/* ---- db.c */

/* Opens the table of a manifest's entry (or one just written) with the database's cache, uuid and hooks. */
KV_MUST kv_status kv_db_open_table(struct kv_db *db, const struct kv_table_meta *meta, struct kv_table **out,
                                   struct kv_err *err);
/* The same for a segment of the value log. */
KV_MUST kv_status kv_db_open_segment(struct kv_db *db, const struct kv_segment_meta *meta,
                                     struct kv_segment **out, struct kv_err *err);
/* As kv_get, but a value in blocks is not read: *place says where it lies, and out->value is empty. place->segment: the caller's to
 * give back; NULL: it is no such value. */
struct kv_place {
    struct kv_segment *segment;
    struct kv_pointer pointer;
};
KV_MUST kv_status kv_db_get_place(struct kv_db *db, const struct kv_snapshot *snapshot, uint32_t space,
                                  kv_slice key, struct kv_pinned *out, struct kv_place *place,
                                  struct kv_err *err);
void kv_db_work_failed(struct kv_db *db, enum kv_job job, const struct kv_err *err);
/* Lends a value of a memtable; *out holds the memtable. */
void kv_pinned_memtable(struct kv_memtable *memtable, kv_slice value, struct kv_pinned *out);
/* Lends a copy of a value. */
KV_MUST kv_status kv_pinned_copy(kv_slice value, struct kv_pinned *out);
/* May the batch's entries go to the spaces they name? */
KV_MUST kv_status kv_db_check_batch(struct kv_db *db, const struct kv_batch *batch, struct kv_err *err);
void kv_db_kick(struct kv_db *db); /* something may wait to be flushed or merged */
/* kv_env_job.run */
bool kv_db_flush_job(void *db);
bool kv_db_merge_job(void *db);
static inline bool kv_space_known(const struct kv_db *db, uint32_t space)
{
    return space < db->n_declared;
}

#endif

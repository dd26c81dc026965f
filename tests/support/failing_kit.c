#include "tests/support/failing_kit.h"
#include "kvcore/base/assert.h"
#include "tests/support/fault_arm.h"
#include "tests/support/sweep.h"

#include <criterion/criterion.h>
#include <stdio.h>

enum { TEXT = 64 << 10 };

struct failing {
    const struct failing_world *world;
    const struct failing_deed *deed;
    bool memory;
    struct fault_sites *sites; /* NULL: by number */
    uint64_t nth;
    char before[TEXT], after[TEXT], found[TEXT];
};

static void note_ban(void *ctx, uint32_t space, kv_slice prefix)
{
    char *out = ctx;
    snprintf(out + strlen(out), 400, " banned %u/%.*s", space, KV_ARG(prefix));
}

static void content(struct kv_kit *kit, char *out)
{
    out[0] = 0;
    for (uint32_t space = 0; space < kit->options.n_spaces; space++) {
        size_t n = strlen(out);
        n += (size_t)snprintf(out + n, TEXT - n, "\n%s: ", kit->spaces[space].name);
        kv_kit_scan(kit, NULL, space, "", "", out + n, TEXT - n - 2000);
    }
    cr_assert_eq(kv_banned(kit->db, note_ban, out), KV_OK);
    snprintf(out + strlen(out), 40, " application %u", kv_app_version(kit->db));
}

struct stage {
    struct kv_vfs *vfs;
    struct vfs_fault *fault;
    struct kv_kit kit;
};

static void stage_begin(struct stage *stage, const struct failing_world *world)
{
    stage->vfs = kv_vfs_mem_new();
    stage->fault = vfs_fault_new(stage->vfs);
    damage_dir_store(world->files, stage->vfs, "db");
    world->kit(&stage->kit, vfs_fault_as_vfs(stage->fault));
    kv_kit_must_open(&stage->kit);
}

static void stage_end(struct stage *stage)
{
    kv_kit_close(&stage->kit);
    vfs_fault_free(stage->fault);
    kv_kit_release(&stage->kit);
    kv_vfs_mem_free(stage->vfs);
}

static void expect(struct failing *f)
{
    struct stage stage;
    stage_begin(&stage, f->world);
    content(&stage.kit, f->before);
    kv_status rc = f->deed->run(&stage.kit);
    cr_assert_eq(rc, KV_OK, "%s failed by itself: %s: %s", f->deed->name, kv_status_name(rc),
                 stage.kit.err.text);
    if (!stage.kit.db)
        kv_kit_must_open(&stage.kit);
    content(&stage.kit, f->after);
    stage_end(&stage);
}

static void judge(struct failing *f, struct kv_kit *kit, kv_status rc, const char *when)
{
    content(kit, f->found);
    bool was = strcmp(f->found, f->before) == 0, is = strcmp(f->found, f->after) == 0;
    bool right = rc == KV_OK ? is : was || f->deed->steps || (is && rc == KV_UNKNOWN_OUTCOME);
    if (!right)
        cr_assert(false, "%s, %s %d, which answered %s: %s\nbefore: %s\nafter: %s\nfound%s: %s",
                  f->deed->name, f->memory ? "allocation" : "operation", (int)f->nth, kv_status_name(rc),
                  kit->err.text, f->before, f->after, when, f->found);
}

static bool one(struct failing *f)
{
    struct stage stage;
    struct kv_kit *kit = &stage.kit;
    stage_begin(&stage, f->world);
    const struct vfs_fault_plan plan = {
        .sticky = f->world->sticky, .kind = f->world->full ? VFS_FAULT_SHORT_ENOSPC : VFS_FAULT_SHORT_EIO};
    if (f->memory)
        fault_arm_memory(f->sites, f->nth, f->world->sticky);
    else
        fault_arm(stage.fault, &plan, f->sites, f->nth);
    kv_status rc = f->deed->run(kit);
    bool fired = fault_disarm(stage.fault, f->memory ? NULL : &plan);
    cr_assert(rc == KV_OK || fired, "%s failed by itself: %s", f->deed->name, kit->err.text);
    bool may = rc == KV_OK || rc == KV_UNKNOWN_OUTCOME || rc == KV_READ_ONLY ||
               (f->memory ? rc == KV_NO_MEMORY || rc == KV_IO || rc == KV_NO_SPACE
                          : rc == (f->world->full ? KV_NO_SPACE : KV_IO));
    cr_assert(may, "%s, %s %d: %s: %s", f->deed->name, f->memory ? "allocation" : "operation", (int)f->nth,
              kv_status_name(rc), kit->err.text);
    if (!kit->db)
        kv_kit_must_open(kit);
    judge(f, kit, rc, "");
    kv_kit_close(kit);
    kv_kit_must_open(kit);
    judge(f, kit, rc, ", opened again");
    stage_end(&stage);
    return fired;
}

void failing_sweep(const struct failing_world *world, const struct failing_deed *deeds, size_t n, bool memory)
{
    struct failing *f = calloc(1, sizeof *f);
    struct fault_sites *sites = fault_sites_new();
    cr_assert(f != NULL);
    *f = (struct failing){.world = world, .memory = memory, .sites = sweep_all() ? NULL : sites};
    for (size_t i = 0; i < n; i++) {
        f->deed = &deeds[i];
        expect(f);
        f->nth = 1;
        while (one(f))
            cr_assert_lt(++f->nth, 100000);
    }
    fault_sites_free(sites);
    free(f);
}

#include "kvcore/db/pick.h"

bool kv_pick_cut(const struct kv_version *version, size_t runs_max, struct kv_pick *out)
{
    const struct kv_cut *best = NULL;
    for (uint32_t space = 0; space < version->n_spaces; space++) {
        const struct kv_tree *tree = &version->trees[space];
        for (size_t i = 0; i < tree->n_cuts; i++) {
            const struct kv_cut *cut = &tree->cuts[i];
            if (cut->n_runs <= runs_max || (best && cut->n_runs < best->n_runs) ||
                (best && cut->n_runs == best->n_runs && cut->bytes >= best->bytes))
                continue;
            best = cut;
            *out = (struct kv_pick){space, i, cut->n_runs};
        }
    }
    return best != NULL;
}

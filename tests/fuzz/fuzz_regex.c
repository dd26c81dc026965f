/* Pattern NUL text: any pattern compiles or says why, and all ways of matching agree. */
#include "kvcore/base/assert.h"
#include "tsdb/regex_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
    size_t len = nul ? (size_t)(nul - data) : size;
    kv_slice pattern = {data, len}, text = nul ? kv_slice_of(nul + 1, size - len - 1) : KV_STR("");
    kv_slice groups[TS_REGEX_GROUPS_MAX];
    struct ts_regex *regex = NULL;
    struct ts_regex_hint hint;
    struct kv_err err = {0};
    kv_status rc = ts_regex_compile(pattern, &regex, &err);
    if (rc < 0) {
        KV_ASSERT((rc == KV_INVALID || rc == KV_LIMIT) &&
                  strncmp(err.text, "error parsing regexp: ", 22) == 0);
        return 0;
    }
    if (text.len > 4096)
        text.len = 4096;
    bool matches = ts_regex_matches(regex, text);
    KV_ASSERT(matches == ts_rx_matcher_matches(regex->matcher, text));
    KV_ASSERT(matches == ts_regex_groups(regex, text, groups, TS_REGEX_GROUPS_MAX));
    KV_ASSERT(!matches || kv_slice_equal(groups[0], text));
    for (size_t g = 1; matches && g < TS_REGEX_GROUPS_MAX; g++)
        KV_ASSERT(!groups[g].data || text.len == 0 ||
                  (groups[g].data >= text.data && groups[g].data + groups[g].len <= text.data + text.len));
    ts_regex_hint(regex, &hint);
    KV_ASSERT(!matches || kv_slice_has_prefix(text, hint.prefix) || hint.n_literals > 0);
    KV_ASSERT(hint.nullable == ts_rx_matcher_matches(regex->matcher, KV_STR("")));
    for (size_t i = 0; i < hint.n_literals; i++)
        KV_ASSERT(ts_rx_matcher_matches(regex->matcher, hint.literals[i]));
    KV_ASSERT(!hint.any || text.len == 0 || matches);
    struct kv_buf out = {.max = 1 << 20};
    if (matches)
        (void)!ts_regex_expand(regex, pattern, groups, TS_REGEX_GROUPS_MAX, &out);
    kv_buf_release(&out);
    ts_regex_free(regex);
    return 0;
}

#include "http/router.h"

#include <stdio.h>

/* Whether path fits pattern; {} takes one non-empty segment into *arg. */
static bool fits(const char *pattern, kv_slice path, kv_slice *arg)
{
    const char *hole = strstr(pattern, "{}");
    if (!hole)
        return kv_slice_equal(kv_slice_str(pattern), path);
    size_t before = (size_t)(hole - pattern), after = strlen(hole + 2);
    if (path.len <= before + after || memcmp(path.data, pattern, before) != 0 ||
        memcmp(path.data + path.len - after, hole + 2, after) != 0)
        return false;
    *arg = (kv_slice){path.data + before, path.len - before - after};
    return !memchr(arg->data, '/', arg->len);
}

const struct http_route *http_route_find(const struct http_route *routes, size_t n, kv_slice path,
                                         kv_slice *arg)
{
    *arg = (kv_slice){0};
    for (size_t i = 0; i < n; i++)
        if (fits(routes[i].pattern, path, arg))
            return &routes[i];
    return NULL;
}

void http_route_allow(unsigned methods, char out[64])
{
    static const struct {
        enum http_method method;
        const char *name;
    } names[] = {
        {HTTP_GET, "GET, HEAD, "}, {HTTP_POST, "POST, "}, {HTTP_PUT, "PUT, "}, {HTTP_DELETE, "DELETE, "}};
    size_t n = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (methods & names[i].method)
            n += (size_t)snprintf(out + n, 64 - n, "%s", names[i].name);
    snprintf(out + n, 64 - n, "OPTIONS");
}

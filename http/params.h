/*
 * params.h - the values parameters carry: times, durations, limits, as the Prometheus API reads them, with its words for what is wrong.
 *
 * Threads    any. Failure  KV_INVALID with *err holding `invalid parameter "NAME": ...` (a 400).
 */
#ifndef HTTP_PARAMS_H
#define HTTP_PARAMS_H

#include "http/request.h"

/* Unix seconds with a fraction, or RFC 3339 ("2026-11-21T03:08:03.5Z", "+01:00"). */
KV_MUST kv_status http_parse_time(kv_slice text, int64_t *ms);
/* Seconds with a fraction, or "1h30m": y w d h m s ms, longest first, each once. */
KV_MUST kv_status http_parse_duration(kv_slice text, int64_t *ms);
/* SELECTOR=TIME or SELECTOR=inf; the selector, borrowed, is not looked into. */
struct ts_retention_rule;
KV_MUST kv_status http_parse_rule(kv_slice text, struct ts_retention_rule *rule);

/* The parameter, or `otherwise` when it is absent or empty. */
KV_MUST kv_status http_param_time(struct http_request *request, const char *name, int64_t otherwise,
                                  int64_t *ms, struct kv_err *err);
KV_MUST kv_status http_param_duration(struct http_request *request, const char *name, int64_t otherwise,
                                      int64_t *ms, struct kv_err *err);
/* Not negative; 0 means no limit. */
KV_MUST kv_status http_param_limit(struct http_request *request, const char *name, uint64_t otherwise,
                                   uint64_t *limit, struct kv_err *err);
/* "true" and "1" are true. */
KV_MUST kv_status http_param_bool(struct http_request *request, const char *name, bool *value,
                                  struct kv_err *err);

#endif

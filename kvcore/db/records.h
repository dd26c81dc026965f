/*
 * records.h - a cursor over the application records that a crash or restart left in the log. The public half
 * (kv_records_next, close, bytes_left) is in kv.h; kv_records_open is db.c's, over kv_log_records_open.
 *
 * It reads log files front to back again, so it costs no memory per record. Records are those replayed by kv_log_open
 * from records_from on, not what was committed since.
 *
 * Threads    a cursor belongs to one at a time; commits, trims and other cursors may run beside it.
 *
 * Ownership  close before kv_log_close. Files it has yet to read must not be trimmed: the application floor keeps them.
 */
#ifndef KV_RECORDS_H
#define KV_RECORDS_H

#include "kvcore/db/log.h"

KV_MUST kv_status kv_log_records_open(struct kv_log *log, struct kv_records **out);

#endif

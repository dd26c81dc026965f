/*
 * sys_fault.h - makes one call into the C library, OpenSSL or zstd fail, by standing in front of it: the program that links this has
 * functions of their names (see the list in sys_fault.c) which pass every call on, but for the one that was asked for.
 *
 *     sys_fault_arm("fsync", 2, EIO);      // the second fsync of this thread from now on answers -1 and EIO
 *     rc = scenario();
 *     if (!sys_fault_disarm()) ...         // it was never called so often
 *
 * What fails has not happened. Functions that answer a pointer answer NULL; pthread_* and posix_memalign answer `sys` itself;
 * OpenSSL's other functions 0.
 *
 * Threads    a plan is its thread's own; other threads' calls pass.
 */
#ifndef SYS_FAULT_H
#define SYS_FAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void sys_fault_arm(const char *call, uint64_t nth, int sys); /* call must outlive the plan; once */
/* pread, pwrite, pwritev and getrandom: the nth call moves at most so many bytes. */
void sys_fault_arm_short(const char *call, uint64_t nth, size_t bytes);
bool sys_fault_disarm(void); /* did it fire? */

#endif

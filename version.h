/* version.h - the version of the program. The version of stored data is separate: see kvcore/docs and
 * tsdb/docs. */
#ifndef TIDEMARK_VERSION_H
#define TIDEMARK_VERSION_H

#define TIDEMARK_VERSION "0.1.0"

#endif

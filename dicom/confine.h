/* Takes from a receive child what it does not need: memory, file size, processes, new privileges,
** and system calls (setrlimit, no_new_privs, seccomp). A broken DCMTK parser then costs one
** association and nothing else. One way: there is no undo. Thread: a process with one thread. */
#ifndef CT2MR_DICOM_CONFINE_H
#define CT2MR_DICOM_CONFINE_H

#include "base/err.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* max_file_bytes: a larger write fails with EFBIG. more_memory_bytes: address space on top of what
** the process has now. Under a sanitizer, memory and system calls are left unlimited.
** Errors: IO (with errno). */
MUST_CHECK Status confine_process(uint64_t max_file_bytes, uint64_t more_memory_bytes, Err *err);

#ifdef __cplusplus
}
#endif
#endif

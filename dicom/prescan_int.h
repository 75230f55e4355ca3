/* Between files of dicom/: the scan without its own pass over all bytes, for a caller that has
** hashed the data set while it arrived (hot in the cache; overlaps with the sender). */
#ifndef CT2MR_DICOM_PRESCAN_INT_H
#define CT2MR_DICOM_PRESCAN_INT_H

#include "base/digest.h"
#include "dicom/prescan.h"

#ifdef __cplusplus
extern "C" {
#endif

/* prescan_memory() with the digest given: SHA-256 over transfer syntax UID and data set bytes. */
MUST_CHECK Status prescan_hashed(const unsigned char *data, size_t size_bytes,
                                 const uint8_t digest[DIGEST_SIZE], Instance *ret,
                                 unsigned *ret_dimse, Err *err);

#ifdef __cplusplus
}
#endif
#endif

/* Private to the packed file's reader and writer: the header's text. */
#ifndef CT2MR_GPU_PACK_INT_H
#define CT2MR_GPU_PACK_INT_H

#include "gpu/pack_file.h"

enum { PACK_PREFIX_BYTES = 16, PACK_ALIGN = 4096, PACK_ARRAYS = 3 };
#define PACK_MAX_HEADER_BYTES ((size_t)16 << 20)

typedef struct PackArray { /* bytes from the end of the header's padding */
    size_t offset, size_bytes;
} PackArray;

typedef struct PackHeader {
    PackInfo info;                 /* its pointers are those below */
    PackCase *cases;               /* owned */
    PackStatistics *statistics;    /* owned */
    char *provenance;              /* owned */
    PackArray arrays[PACK_ARRAYS]; /* hu, mask, mr */
} PackHeader;

/* "hu", "mask", "mr"; bytes of an element. */
const char *pack_array_name(int array);
size_t pack_array_element(int array);

/* From the JSON text; data_bytes is what the file has behind the header. ret is to be freed by
** pack_header_free(), on failure too. Errors: PACK_FORMAT, NO_MEMORY. */
MUST_CHECK Status pack_header_parse(const char *text, size_t length, size_t data_bytes,
                                    PackHeader *ret, Err *err);
void pack_header_free(PackHeader *header);
/* What a reader would not accept of the fields that describe slices (not counts, cases, digest). */
MUST_CHECK Status pack_check_fields(const PackInfo *info, Status status, Err *err);
/* 16 lower-case hex digits. */
bool pack_id_valid(const char *id);

#endif

/* Fuzz targets: each takes any bytes and must come back; a broken claim ends the process.
**
** `make fuzz F=NAME` drives one with clang's libFuzzer (fuzz/main.c) from tests/corpus/NAME;
** test_fuzz.c replays that folder in `make test`. Thread: one. */
#ifndef CT2MR_TESTS_FUZZ_H
#define CT2MR_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* The model file (fuzz_model.c). */
int fuzz_model(const uint8_t *data, size_t size);
/* The packed file (fuzz_pack.c). */
int fuzz_pack(const uint8_t *data, size_t size);

#endif

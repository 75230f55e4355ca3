/* Every file of tests/corpus/ through its fuzz target (fuzz.h). Claim: it comes back. A crash, a
** broken claim of the target or, under `make asan`, a wrong access ends the test. */
#include "tests/test.h"

#include "base/files.h"
#include "tests/fuzz.h"

#include <dirent.h>

enum { MAX_BYTES = 1 << 24 };

static void replay(const char *folder, int (*target)(const uint8_t *, size_t), int at_least)
{
    struct dirent **entries;
    int n = scandir(folder, &entries, NULL, alphasort), n_files = 0;
    CHECK(n >= 0);
    for (int i = 0; i < n; i++) {
        char path[PATH_SIZE], *bytes;
        size_t size;
        Err err = {0};
        if (entries[i]->d_name[0] != '.') {
            CHECK_OK(path_format(path, &err, "%s/%s", folder, entries[i]->d_name), &err);
            CHECK_OK(file_read(path, MAX_BYTES, &bytes, &size, &err), &err);
            (void)printf("# %s\n", path); /* the last one printed is the one that failed */
            (void)fflush(stdout);
            CHECK_INT(target((const uint8_t *)bytes, size), 0);
            free(bytes);
            n_files++;
        }
        free(entries[i]);
    }
    free(entries);
    CHECK(n_files >= at_least);
}

TEST(fuzz_corpus_model, "every model file that the fuzzer or a person thought of is survived")
{
    replay("tests/corpus/model", fuzz_model, 20);
}

TEST(fuzz_corpus_pack, "every packed file that the fuzzer or a person thought of is survived")
{
    replay("tests/corpus/pack", fuzz_pack, 12);
}

/* The test harness. A test is a function registered by TEST(); the runner forks one process per
** test with a deadline, prints TAP and a closing line `N passed, N failed, N skipped`.
**
**   TEST(affine_inverse_undoes_multiplication, "a_from_b then b_from_a is the identity to 1e-12")
**   {
**       CHECK(fabs(x) < 1e-12);
**   }
**
** CHECK* end the test at the first failure. SKIP("why") ends it as skipped, which is counted and
** printed. Files go below test_dir(), an empty folder made for this test and removed after it. */
#ifndef CT2MR_TESTS_TEST_H
#define CT2MR_TESTS_TEST_H

#include "base/err.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Test {
    const char *name, *claim, *file;
    int timeout_s;
    void (*run)(void);
    struct Test *next;
} Test;

void test_register(Test *test);
/* An empty folder for this test. */
const char *test_dir(void);
/* Path of `name` in the project's shared measurement folder (environment CT2MR_SHARED, default
** ../shared), or the test is skipped when it is not there. Static buffer. */
const char *test_shared(const char *name);
__attribute__((noreturn, format(printf, 3, 4))) void test_fail(const char *file, int line,
                                                               const char *format, ...);
__attribute__((noreturn)) void test_skip(const char *why);

#define TEST_TIMEOUT(test_name, claim_text, seconds)                                               \
    static void test_name(void);                                                                   \
    __attribute__((constructor)) static void test_name##_register(void)                            \
    {                                                                                              \
        static Test test = {#test_name, claim_text, __FILE__, seconds, test_name, NULL};           \
        test_register(&test);                                                                      \
    }                                                                                              \
    static void test_name(void)
#define TEST(test_name, claim_text) TEST_TIMEOUT(test_name, claim_text, 60)

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond))                                                                               \
            test_fail(__FILE__, __LINE__, "%s", #cond);                                            \
    } while (0)
#define CHECK_OK(call, err)                                                                        \
    do {                                                                                           \
        Status check_status_ = (call);                                                             \
        if (check_status_ != ST_OK)                                                                \
            test_fail(__FILE__, __LINE__, "%s: %s: %s", #call, status_name(check_status_),         \
                      (err)->msg);                                                                 \
    } while (0)
#define CHECK_STATUS(call, want)                                                                   \
    do {                                                                                           \
        Status check_status_ = (call);                                                             \
        if (check_status_ != (want))                                                               \
            test_fail(__FILE__, __LINE__, "%s: %s, expected %s", #call,                            \
                      status_name(check_status_), status_name(want));                              \
    } while (0)
#define CHECK_STR(a, b)                                                                            \
    do {                                                                                           \
        if (strcmp((a), (b)) != 0)                                                                 \
            test_fail(__FILE__, __LINE__, "%s: \"%s\", expected \"%s\"", #a, (a), (b));            \
    } while (0)
#define CHECK_INT(a, b)                                                                            \
    do {                                                                                           \
        long long check_a_ = (long long)(a), check_b_ = (long long)(b);                            \
        if (check_a_ != check_b_)                                                                  \
            test_fail(__FILE__, __LINE__, "%s: %lld, expected %lld", #a, check_a_, check_b_);      \
    } while (0)
#define CHECK_NEAR(a, b, tolerance)                                                                \
    do {                                                                                           \
        double check_a_ = (double)(a), check_b_ = (double)(b);                                     \
        if (!(fabs(check_a_ - check_b_) <= (tolerance)))                                           \
            test_fail(__FILE__, __LINE__, "%s: %.9g, expected %.9g +- %g", #a, check_a_, check_b_, \
                      (double)(tolerance));                                                        \
    } while (0)
#define SKIP(why) test_skip(why)

#endif

/* New memory comes page by page when it is first written, which can take longer than to fill a table. */

#include <stddef.h>
#include <stdint.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#define LARGE (6 << 20) /* bytes from which large pages pay */

/* Ask for large pages if it is worth it; it is no error if there are none. */
static void use_large_pages(void *memory, size_t size) {
#if defined(MADV_HUGEPAGE)
    const uintptr_t page = 64 << 10; /* a multiple of every system's own */
    const uintptr_t begin = ((uintptr_t)memory + page - 1) / page * page;
    const uintptr_t end = ((uintptr_t)memory + size) / page * page;
    if (size >= LARGE) madvise((void *)begin, end - begin, MADV_HUGEPAGE);
#else
    (void)memory, (void)size;
#endif
}

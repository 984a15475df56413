/* A loop whose rounds are shared out among threads. */

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

#define MAX_THREADS 256

/* One round, with scratch memory of the thread's own; returns `enum status` bits. */
typedef unsigned round_function(const void *context, int64_t round, char *scratch);

struct team {
    round_function *function;
    const void *context;
    int64_t num_rounds;
    char *scratch;
    size_t scratch_size;
    atomic_llong next_round, next_worker;
    atomic_uint status;
};

static void *work(void *argument) {
    struct team *team = argument;
    char *scratch = team->scratch + (size_t)atomic_fetch_add(&team->next_worker, 1) * team->scratch_size;
    unsigned status = 0;
    for (;;) {
        const int64_t round = atomic_fetch_add(&team->next_round, 1);
        if (round >= team->num_rounds) break;
        status |= team->function(team->context, round, scratch);
    }
    atomic_fetch_or(&team->status, status);
    return NULL;
}

/* Call a function for the rounds [0, num_rounds) on at most so many threads; the status bits of all. */
static unsigned run_team(round_function *function, const void *context, int64_t num_rounds, int64_t num_threads,
                         size_t scratch_size) {
    if (num_threads > num_rounds) num_threads = num_rounds;
    if (num_threads > MAX_THREADS) num_threads = MAX_THREADS;
    if (num_threads < 1) num_threads = 1;
    struct team team = {.function = function, .context = context, .num_rounds = num_rounds};
    team.scratch_size = (scratch_size + 127) / 64 * 64;
    void *memory = malloc((size_t)num_threads * team.scratch_size + 64);
    if (memory == NULL) return NO_MEMORY;
    team.scratch = (char *)(((uintptr_t)memory + 63) / 64 * 64);

    pthread_t threads[MAX_THREADS];
    int64_t started = 0;
    while (started < num_threads - 1 && pthread_create(&threads[started], NULL, work, &team) == 0) started++;
    work(&team); /* takes over what a thread that could not be started would have done */
    for (int64_t k = 0; k < started; k++) pthread_join(threads[k], NULL);
    free(memory);
    return atomic_load(&team.status);
}

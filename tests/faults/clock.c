/* The time of day, wrong by as many seconds as a file says that is mapped into memory. Loaded by LD_PRELOAD.

   Only the clock that people set is wrong: the monotonic one, sleeps, time-outs and the times of files are not. A wait
   until a time of day (C11's, which librdkafka uses) ends by the wrong clock, as it does when the kernel's is wrong. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#define SECOND_NS 1000000000L
#define LOOK_NS 20000000L /* how often a wait looks whether the clock was set meanwhile */

static const volatile long long *ahead_s;
static int (*others)(clockid_t, struct timespec *);
static int (*wait_others)(cnd_t *, mtx_t *, const struct timespec *);

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("CLOCK_FILE");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    others = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    wait_others = (int (*)(cnd_t *, mtx_t *, const struct timespec *))dlsym(RTLD_NEXT, "cnd_timedwait");
    if (file < 0)
        return;
    void *mapped = mmap(NULL, sizeof *ahead_s, PROT_READ, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED)
        ahead_s = mapped;
    close(file);
}

int clock_gettime(clockid_t which, struct timespec *now)
{
    int failed = others ? others(which, now) : (int)syscall(SYS_clock_gettime, which, now);
    if (!failed && ahead_s && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE))
        now->tv_sec += *ahead_s;
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec found;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &found))
        return -1;
    now->tv_sec = found.tv_sec;
    now->tv_usec = found.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *into)
{
    struct timespec found = {0, 0};
    clock_gettime(CLOCK_REALTIME, &found);
    if (into)
        *into = found.tv_sec;
    return found.tv_sec;
}

static int is_before(const struct timespec *one, const struct timespec *other)
{
    return one->tv_sec < other->tv_sec || (one->tv_sec == other->tv_sec && one->tv_nsec < other->tv_nsec);
}

int cnd_timedwait(cnd_t *restrict woken, mtx_t *restrict held, const struct timespec *restrict until)
{
    for (;;) {
        long long ahead = ahead_s ? *ahead_s : 0;
        struct timespec end = *until, look;
        end.tv_sec -= ahead; /* by the kernel's clock */
        syscall(SYS_clock_gettime, CLOCK_REALTIME, &look);
        look.tv_nsec += LOOK_NS;
        look.tv_sec += look.tv_nsec / SECOND_NS;
        look.tv_nsec %= SECOND_NS;
        int last = is_before(&end, &look);
        int result = wait_others(woken, held, last ? &end : &look);
        if (result != thrd_timedout || (last && (!ahead_s || *ahead_s == ahead)))
            return result;
    }
}

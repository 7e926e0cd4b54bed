/* Faults at the border of a process and the kernel: loaded before libc, it sees every call that changes a file.

   Only calls on files below one folder count. At the n-th of them that the mask names, the process is killed before it,
   in the middle of it or after it, or the call fails; `shim_log` writes all of them down instead. Without `shim_arm` all
   calls pass. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE = 1, SYNC = 2, RENAME = 4, REMOVE = 8, CREATE = 16, RESIZE = 32 };
enum { PASS = 0, KILL_BEFORE = 1, KILL_AFTER = 2, KILL_WITHIN = 3, FAIL = 4, SHORT = 5 };

static char folder[PATH_MAX];
static int mask, action, error, lasting, log_to = -1, short_next;
static long wanted, seen;

/* Count from here on: at the `nth` call (from 1) that `which` names do `what`; fail with `code`, for good if `forever`. */
void shim_arm(const char *below, int which, long nth, int what, int code, int forever)
{
    snprintf(folder, sizeof folder, "%s/", below);
    mask = which, wanted = nth, action = what, error = code, lasting = forever, seen = 0, short_next = 0;
}

void shim_disarm(void) { mask = 0, log_to = -1; }
void shim_log(int fd) { log_to = fd; }
long shim_seen(void) { return seen; }

static void die(void) { syscall(SYS_kill, syscall(SYS_getpid), SIGKILL); for (;;) syscall(SYS_pause); }

static int below(const char *path)
{
    size_t n = strlen(folder);
    return !strncmp(path, folder, n) || (strlen(path) == n - 1 && !strncmp(path, folder, n - 1));
}

static int path_of(int fd, char *out)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = syscall(SYS_readlink, link, out, PATH_MAX - 1);
    if (n < 0) return 0;
    out[n] = 0;
    return 1;
}

static int path_at(int dir, const char *name, char *out)
{
    char at[PATH_MAX];
    if (name[0] == '/') { snprintf(out, PATH_MAX, "%s", name); return 1; }
    if (dir == AT_FDCWD) { if (!getcwd(at, sizeof at)) return 0; }
    else if (!path_of(dir, at)) return 0;
    size_t n = strlen(at), m = strlen(name);
    if (n + m + 2 > PATH_MAX) return 0;
    memcpy(out, at, n), out[n] = '/', memcpy(out + n + 1, name, m + 1);
    return 1;
}

/* What is to happen at this call. */
static int meet(int kind, const char *name, const char *path, long size)
{
    if (!(mask & kind) || !below(path)) return PASS;
    int saved = errno;
    seen++;
    if (log_to >= 0) {
        char line[PATH_MAX + 80];
        int n = snprintf(line, sizeof line, "%s\t%s\t%ld\n", name, path, size);
        syscall(SYS_write, log_to, line, (size_t)n);
    }
    errno = saved;
    if (short_next && kind == WRITE) { short_next = lasting; return FAIL; }
    if (seen == wanted || (lasting && wanted && seen > wanted)) {
        if (action == KILL_BEFORE) die();
        return action;
    }
    return PASS;
}

static int meet_fd(int kind, const char *name, int fd, long size)
{
    char path[PATH_MAX];
    return mask && path_of(fd, path) ? meet(kind, name, path, size) : PASS;
}

static int meet_at(int kind, const char *name, int dir, const char *relative)
{
    char path[PATH_MAX];
    return mask && relative && path_at(dir, relative, path) ? meet(kind, name, path, 0) : PASS;
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define FAILED(value) do { errno = error; return (value); } while (0)

/* A call that is done or not: nothing lies between. */
#define WHOLE(met, call) \
    do { int met_ = (met); \
        if (met_ == FAIL || met_ == SHORT) FAILED(-1); \
        if (met_ == KILL_WITHIN) die(); \
        int result_ = (call); \
        if (met_ == KILL_AFTER) die(); \
        return result_; } while (0)

/* A call that may be done in part. */
#define PARTLY(met, half, call) \
    do { int met_ = (met); \
        if (met_ == FAIL) FAILED(-1); \
        if (met_ == SHORT) { short_next = 1; return (half); } \
        if (met_ == KILL_WITHIN) { (void)!(half); die(); } \
        ssize_t result_ = (call); \
        if (met_ == KILL_AFTER) die(); \
        return result_; } while (0)

ssize_t write(int fd, const void *data, size_t n)
{
    REAL(write);
    PARTLY(meet_fd(WRITE, "write", fd, (long)n), real(fd, data, (n + 1) / 2), real(fd, data, n));
}

ssize_t pwrite(int fd, const void *data, size_t n, off_t at)
{
    REAL(pwrite);
    PARTLY(meet_fd(WRITE, "pwrite", fd, (long)n), real(fd, data, (n + 1) / 2, at), real(fd, data, n, at));
}

ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at)
{
    REAL(pwrite64);
    PARTLY(meet_fd(WRITE, "pwrite64", fd, (long)n), real(fd, data, (n + 1) / 2, at), real(fd, data, n, at));
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    REAL(writev);
    PARTLY(meet_fd(WRITE, "writev", fd, count), real(fd, parts, 1), real(fd, parts, count));
}

ssize_t sendfile(int out, int in, off_t *at, size_t n)
{
    REAL(sendfile);
    PARTLY(meet_fd(WRITE, "sendfile", out, (long)n), real(out, in, at, 7), real(out, in, at, n));
}

ssize_t sendfile64(int out, int in, off64_t *at, size_t n)
{
    REAL(sendfile64);
    PARTLY(meet_fd(WRITE, "sendfile64", out, (long)n), real(out, in, at, 7), real(out, in, at, n));
}

int fsync(int fd) { REAL(fsync); WHOLE(meet_fd(SYNC, "fsync", fd, 0), real(fd)); }
int fdatasync(int fd) { REAL(fdatasync); WHOLE(meet_fd(SYNC, "fdatasync", fd, 0), real(fd)); }
int ftruncate(int fd, off_t n) { REAL(ftruncate); WHOLE(meet_fd(RESIZE, "ftruncate", fd, (long)n), real(fd, n)); }
int ftruncate64(int fd, off64_t n) { REAL(ftruncate64); WHOLE(meet_fd(RESIZE, "ftruncate64", fd, (long)n), real(fd, n)); }

int rename(const char *from, const char *to)
{
    REAL(rename);
    WHOLE(meet_at(RENAME, "rename", AT_FDCWD, to), real(from, to));
}

int renameat(int a, const char *from, int b, const char *to)
{
    REAL(renameat);
    WHOLE(meet_at(RENAME, "renameat", b, to), real(a, from, b, to));
}

int unlink(const char *path) { REAL(unlink); WHOLE(meet_at(REMOVE, "unlink", AT_FDCWD, path), real(path)); }
int rmdir(const char *path) { REAL(rmdir); WHOLE(meet_at(REMOVE, "rmdir", AT_FDCWD, path), real(path)); }

int unlinkat(int dir, const char *path, int flags)
{
    REAL(unlinkat);
    WHOLE(meet_at(REMOVE, "unlinkat", dir, path), real(dir, path, flags));
}

int mkdir(const char *path, mode_t mode) { REAL(mkdir); WHOLE(meet_at(CREATE, "mkdir", AT_FDCWD, path), real(path, mode)); }

int mkdirat(int dir, const char *path, mode_t mode)
{
    REAL(mkdirat);
    WHOLE(meet_at(CREATE, "mkdirat", dir, path), real(dir, path, mode));
}

#define MODE(flags, last) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { va_list rest; va_start(rest, last); mode = va_arg(rest, mode_t); va_end(rest); }
#define CREATES(flags) (((flags) & (O_CREAT | O_TRUNC)) ? CREATE : 0)

int open(const char *path, int flags, ...)
{
    REAL(open);
    MODE(flags, flags)
    WHOLE(meet_at(CREATES(flags), "open", AT_FDCWD, path), real(path, flags, mode));
}

int open64(const char *path, int flags, ...)
{
    REAL(open64);
    MODE(flags, flags)
    WHOLE(meet_at(CREATES(flags), "open64", AT_FDCWD, path), real(path, flags, mode));
}

int openat(int dir, const char *path, int flags, ...)
{
    REAL(openat);
    MODE(flags, flags)
    WHOLE(meet_at(CREATES(flags), "openat", dir, path), real(dir, path, flags, mode));
}

int openat64(int dir, const char *path, int flags, ...)
{
    REAL(openat64);
    MODE(flags, flags)
    WHOLE(meet_at(CREATES(flags), "openat64", dir, path), real(dir, path, flags, mode));
}

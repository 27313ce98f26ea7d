#include "bad.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "hash.h"

#define PART 65536
#define LEAD "{\"key\":\"" /* of each of our lines */
#define LEAD_N (sizeof LEAD - 1)
#define DIGITS 32u

static bool no(char *why, const char *path, const char *what, const char *more)
{
    snprintf(why, EXJ_SRC_WHY_BYTES, "%s: %s%s", exj_src_path_end(path), what, more);
    return false;
}

/* ---- keys ------------------------------------------------------------------------------------- */

void exj_src_kept_release(exj_src_kept *k)
{
    free(k->keys);
    memset(k, 0, sizeof *k);
}

static bool key_of(const char *digits, unsigned char ret[16])
{
    for (size_t k = 0; k < DIGITS; k++) {
        char c = digits[k];
        int v = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;

        if (v < 0)
            return false;
        ret[k / 2] = (unsigned char)(k % 2 ? ret[k / 2] | v : v << 4);
    }
    ret[15] |= 1; /* never all zeros */
    return true;
}

/* Its place: where it is, or may be put. The table is never full. */
static size_t place_of(const exj_src_kept *k, const unsigned char key[16])
{
    static const unsigned char none[16];
    uint64_t from;
    size_t at;

    memcpy(&from, key, sizeof from);
    for (at = (size_t)from & (k->cap - 1);
         memcmp(k->keys[at], none, 16) != 0 && memcmp(k->keys[at], key, 16) != 0;)
        at = (at + 1) & (k->cap - 1);
    return at;
}

static bool grow(exj_src_kept *k)
{
    exj_src_kept bigger = { .cap = k->cap ? k->cap * 2 : 64, .n = k->n };
    static const unsigned char none[16];

    bigger.keys = calloc(bigger.cap, sizeof *bigger.keys);
    if (!bigger.keys)
        return false;
    for (size_t at = 0; at < k->cap; at++)
        if (memcmp(k->keys[at], none, 16) != 0)
            memcpy(bigger.keys[place_of(&bigger, k->keys[at])], k->keys[at], 16);
    free(k->keys);
    k->keys = bigger.keys;
    k->cap = bigger.cap;
    return true;
}

/* False: no memory. */
static bool keep(exj_src_kept *k, const unsigned char key[16], bool *ret_new)
{
    size_t at;

    if (2 * (k->n + 1) > k->cap && !grow(k))
        return false;
    at = place_of(k, key);
    *ret_new = memcmp(k->keys[at], key, 16) != 0;
    if (*ret_new) {
        memcpy(k->keys[at], key, 16);
        k->n++;
    }
    return true;
}

/* The keys of all lines of the file that are ours. False: errno. */
static bool read_keys(exj_src_kept *k, int fd, int64_t size)
{
    char part[PART], lead[LEAD_N + DIGITS];
    size_t at_line = 0;
    bool is_new;

    for (int64_t at = 0; at < size;) {
        ssize_t got = pread(fd, part, sizeof part, at);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            if (got == 0)
                errno = EIO;
            return false;
        }
        for (ssize_t n = 0; n < got; n++) {
            unsigned char key[16];

            if (part[n] == '\n') {
                at_line = 0;
                continue;
            }
            if (at_line >= sizeof lead)
                continue;
            lead[at_line++] = part[n];
            if (at_line == sizeof lead && memcmp(lead, LEAD, LEAD_N) == 0 &&
                key_of(lead + LEAD_N, key) && !keep(k, key, &is_new)) {
                errno = ENOMEM;
                return false;
            }
        }
        at += got;
    }
    return true;
}

/* ---- lines ------------------------------------------------------------------------------------- */

void exj_src_aside_release(exj_src_aside *a)
{
    exj_json_out_release(&a->lines);
    exj_json_out_release(&a->one);
}

static void put_base64(exj_json_out *o, exj_str bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    exj_json_put_raw(o, "base64", exj_text("\""));
    for (uint64_t k = 0; k < bytes.n; k += 3) {
        uint32_t left = bytes.n - k < 3 ? (uint32_t)(bytes.n - k) : 3, v = 0;
        char four[4];

        for (uint32_t m = 0; m < 3; m++)
            v = v << 8 | (m < left ? (unsigned char)bytes.p[k + m] : 0u);
        for (uint32_t m = 0; m < 4; m++)
            four[m] = m <= left ? digits[v >> (18 - 6 * m) & 63] : '=';
        exj_json_add_(o, four, 4);
    }
    exj_json_add_(o, "\"", 1);
}

static void put_time(exj_json_out *o)
{
    struct timespec now;
    struct tm tm;
    char text[40] = "";

    clock_gettime(CLOCK_REALTIME, &now);
    if (gmtime_r(&now.tv_sec, &tm))
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    exj_json_put_text(o, "at", text);
}

bool exj_src_aside_add(exj_src_aside *a, const char *file, uint64_t line,
                       const exj_src_trouble *t, exj_str text, uint64_t bytes)
{
    exj_src_hash h;
    char key[DIGITS + 1];
    size_t at;

    while (text.n && (text.p[text.n - 1] == '\n' || text.p[text.n - 1] == '\r'))
        text.n--;
    exj_src_hash_begin(&h);
    exj_src_hash_add(&h, &line, sizeof line);
    exj_src_hash_add(&h, text.p, (size_t)text.n);
    exj_src_hash_end(&h, DIGITS, key);
    if (text.n > EXJ_SRC_BAD_TEXT) {
        text.n = EXJ_SRC_BAD_TEXT;
        while (text.n && ((unsigned char)text.p[text.n] & 0xc0) == 0x80)
            text.n--;
    }
    exj_json_out_reset(&a->one);
    exj_json_begin_object(&a->one);
    exj_json_put_text(&a->one, "key", key);
    put_time(&a->one);
    exj_json_put_text(&a->one, "file", file);
    exj_json_put_i64(&a->one, "line", (int64_t)(line + t->line));
    exj_json_put_i64(&a->one, "column", (int64_t)t->column);
    exj_json_put_text(&a->one, "reason", t->reason);
    exj_json_put_i64(&a->one, "bytes", (int64_t)bytes);
    if (exj_src_is_text(text.p, (size_t)text.n, &at))
        exj_json_put_string(&a->one, "text", text);
    else
        put_base64(&a->one, text);
    exj_json_end_object(&a->one);
    exj_json_add_(&a->one, "\n", 1);
    if (a->one.failed)
        return false;
    exj_json_add_(&a->lines, a->one.p, a->one.n);
    a->n += !a->lines.failed;
    return !a->lines.failed;
}

static bool write_all(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t w = write(fd, p, n);

        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0) {
            if (w == 0)
                errno = ENOSPC;
            return false;
        }
        p += w;
        n -= (size_t)w;
    }
    return true;
}

/* Only the lines that are new stay in a->lines. False: no memory. */
static bool drop_known(exj_src_aside *a, exj_src_kept *kept, size_t *ret_new)
{
    size_t to = 0;

    for (size_t at = 0; at < a->lines.n;) {
        size_t n = (size_t)((char *)memchr(a->lines.p + at, '\n', a->lines.n - at) - a->lines.p) + 1 - at;
        unsigned char key[16];
        bool is_new = true;

        if (key_of(a->lines.p + at + LEAD_N, key) && !keep(kept, key, &is_new))
            return false;
        if (is_new) {
            memmove(a->lines.p + to, a->lines.p + at, n);
            to += n;
            ++*ret_new;
        }
        at += n;
    }
    a->lines.n = to;
    return true;
}

/* Locked, and no line of it half there; what it holds is known. */
static bool look_at(int fd, const char *path, exj_src_kept *kept, int64_t *ret_size, char *why)
{
    struct stat st;
    char last = '\n';

    while (flock(fd, LOCK_EX) != 0)
        if (errno != EINTR)
            return no(why, path, "cannot be locked: ", strerrordesc_np(errno));
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        return no(why, path, "wanted a regular file for what is put aside", "");
    *ret_size = st.st_size;
    if (kept->dev != st.st_dev || kept->ino != st.st_ino || kept->bytes != st.st_size) {
        exj_src_kept_release(kept);
        if (!read_keys(kept, fd, st.st_size)) {
            exj_src_kept_release(kept);
            if (errno != ENOMEM)
                return no(why, path, "cannot be read: ", strerrordesc_np(errno));
            snprintf(why, EXJ_SRC_WHY_BYTES, EXJ_SRC_NO_MEMORY);
            return false;
        }
        kept->dev = st.st_dev;
        kept->ino = st.st_ino;
        kept->bytes = st.st_size;
    }
    if (*ret_size && pread(fd, &last, 1, *ret_size - 1) == 1 && last != '\n' &&
        write_all(fd, "\n", 1))
        kept->bytes = ++*ret_size; /* a crash left half a line: it stays a line of its own */
    return true;
}

bool exj_src_aside_write(exj_src_aside *a, const exj_src_place *place, const char *path,
                         exj_src_kept *kept, size_t *ret_new, char why[EXJ_SRC_WHY_BYTES])
{
    bool good = false;
    int64_t size = 0;
    int fd;

    *ret_new = 0;
    if (!a->n)
        return true;
    fd = exj_src_place_open(place, path, O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW, NULL, why);
    if (fd < 0)
        goto out;
    if (!look_at(fd, path, kept, &size, why))
        goto out;
    if (!drop_known(a, kept, ret_new)) {
        snprintf(why, EXJ_SRC_WHY_BYTES, EXJ_SRC_NO_MEMORY);
        goto out;
    }
    if (size + (int64_t)a->lines.n > EXJ_SRC_BAD_FILE) {
        no(why, path, "is full of bad lines (64 MiB): look at them, mend their source, and move "
                      "the file away", "");
        goto out;
    }
    if (a->lines.n && (!write_all(fd, a->lines.p, a->lines.n) || fsync(fd) != 0)) {
        no(why, path, "cannot be written: ", strerrordesc_np(errno));
        goto out;
    }
    kept->bytes = size + (int64_t)a->lines.n;
    good = true;
out:
    if (!good)
        exj_src_kept_release(kept); /* it knows lines that may not be there */
    exj_json_out_reset(&a->lines);
    a->n = 0;
    if (fd >= 0)
        close(fd);
    return good;
}

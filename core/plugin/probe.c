/* core/plugin/probe.c - a file is judged before any of its code can run.
 *
 * dlopen trusts what it maps: a cut file ends in SIGBUS, a hostile one runs constructors
 * before a version could be asked. So identity is a note, read with pread, and every
 * offset is held against the size of the file first. A tail of zeros (a copy that did not
 * reach the disk) shows in the section headers, which linkers put last.
 */
#include "core/plugin/bootstrap.h"
#include "core/plugin/guest.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/sha256.h"

#define BYTES_MAX (256u * 1024u * 1024u)
#define NOTES_MAX (64u * 1024u)
#define HEADERS_MAX 4096u

#if defined(__x86_64__)
#define MACHINE EM_X86_64
#elif defined(__aarch64__)
#define MACHINE EM_AARCH64
#elif defined(__riscv)
#define MACHINE EM_RISCV
#elif defined(__powerpc64__)
#define MACHINE EM_PPC64
#elif defined(__s390x__)
#define MACHINE EM_S390
#else
#error "say which e_machine this is"
#endif
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define BYTE_ORDER_OF_HOST ELFDATA2LSB
#else
#define BYTE_ORDER_OF_HOST ELFDATA2MSB
#endif

/* What kind of note is wanted. */
struct passport {
    uint32_t type, major, minor;
    const char *what, *macro;
};
static const struct passport of_plugin = { EXJ_NOTE_TYPE, EXJ_ABI_MAJOR, EXJ_ABI_MINOR, "plugin",
                                           "EXJ_PLUGIN_EXPORT" };
static const struct passport of_bootstrap = { EXJ_HOST_NOTE_TYPE, EXJ_HOST_MAJOR,
                                              EXJ_HOST_MINOR, "host bootstrap",
                                              "EXJ_HOST_EXPORT" };

struct view {
    int fd;
    const char *shown;
    uint64_t bytes;
    exj_err *err;
    const struct passport *wanted;
};

static exj_code wrong(const struct view *v, const char *field, const char *wanted,
                      uint64_t found)
{
    return exj_err_set(v->err, EXJ_INVALID, "%s: %s: wanted %s, found %llu", v->shown, field,
                       wanted, (unsigned long long)found);
}

static bool inside(const struct view *v, uint64_t at, uint64_t n)
{
    return at <= v->bytes && n <= v->bytes - at;
}

static exj_code read_at(const struct view *v, void *to, size_t n, uint64_t at)
{
    char *p = to;

    if (!inside(v, at, n))
        return exj_err_set(v->err, EXJ_INVALID,
                           "%s: cut short: wanted %zu bytes at %llu, the file has %llu", v->shown,
                           n, (unsigned long long)at, (unsigned long long)v->bytes);
    while (n) {
        ssize_t got = pread(v->fd, p, n, (off_t)at);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return exj_err_set(v->err, EXJ_IO, "%s: read: %s", v->shown, strerror(errno));
        if (got == 0)
            return exj_err_set(v->err, EXJ_INVALID, "%s: shrank while it was read", v->shown);
        p += got;
        n -= (size_t)got;
        at += (uint64_t)got;
    }
    return EXJ_OK;
}

static exj_code check_header(const struct view *v, const Elf64_Ehdr *h)
{
    if (memcmp(h->e_ident, ELFMAG, SELFMAG) != 0)
        return exj_err_set(v->err, EXJ_INVALID, "%s: not an ELF file (no \\177ELF at its start)",
                           v->shown);
    if (h->e_ident[EI_CLASS] != ELFCLASS64)
        return wrong(v, "ELF class", "2 (64 bit)", h->e_ident[EI_CLASS]);
    if (h->e_ident[EI_DATA] != BYTE_ORDER_OF_HOST)
        return wrong(v, "ELF byte order", "this host's", h->e_ident[EI_DATA]);
    if (h->e_ident[EI_VERSION] != EV_CURRENT || h->e_version != EV_CURRENT)
        return wrong(v, "ELF version", "1", h->e_version);
    if (h->e_type != ET_DYN)
        return wrong(v, "ELF type", "3 (shared object)", h->e_type);
    if (h->e_machine != MACHINE) {
        char wanted[32];

        snprintf(wanted, sizeof wanted, "%u (this machine)", (unsigned)MACHINE);
        return wrong(v, "ELF machine", wanted, h->e_machine);
    }
    if (h->e_phentsize != sizeof(Elf64_Phdr) || h->e_phnum == 0 || h->e_phnum > HEADERS_MAX)
        return wrong(v, "program headers", "1 to 4096 of 56 bytes", h->e_phnum);
    if (h->e_shentsize != sizeof(Elf64_Shdr) || h->e_shnum < 2 || h->e_shnum > HEADERS_MAX)
        return wrong(v, "section headers", "2 to 4096 of 64 bytes", h->e_shnum);
    if (h->e_shstrndx == SHN_UNDEF || h->e_shstrndx >= h->e_shnum)
        return wrong(v, "index of the section names", "a section", h->e_shstrndx);
    return EXJ_OK;
}

static exj_code check_sections(const struct view *v, const Elf64_Ehdr *h)
{
    size_t n = h->e_shnum;
    Elf64_Shdr *s = calloc(n, sizeof *s);
    char edge = 1;
    exj_code rc;

    if (!s)
        return exj_err_set(v->err, EXJ_NOMEM, "%s: out of memory", v->shown);
    rc = read_at(v, s, n * sizeof *s, h->e_shoff);
    for (size_t i = 1; !rc && i < n; i++) {
        if (s[i].sh_type == SHT_NULL)
            rc = exj_err_set(v->err, EXJ_INVALID,
                             "%s: section %zu of %zu has no type: the file ends in zeros, as "
                             "after a copy that was cut off",
                             v->shown, i, n);
        else if (s[i].sh_type != SHT_NOBITS && !inside(v, s[i].sh_offset, s[i].sh_size))
            rc = exj_err_set(v->err, EXJ_INVALID,
                             "%s: cut short: section %zu ends at %llu, the file has %llu bytes",
                             v->shown, i, (unsigned long long)(s[i].sh_offset + s[i].sh_size),
                             (unsigned long long)v->bytes);
        else if (s[i].sh_type == SHT_STRTAB && (s[i].sh_addralign == 0 || s[i].sh_size == 0))
            rc = exj_err_set(v->err, EXJ_INVALID, "%s: section %zu is an empty string table: "
                             "the file ends in zeros", v->shown, i);
    }
    if (!rc) { /* names: a string table starts and ends with NUL and holds every name */
        const Elf64_Shdr *names = &s[h->e_shstrndx];

        if (names->sh_type != SHT_STRTAB)
            rc = wrong(v, "type of the section names", "3 (strings)", names->sh_type);
        if (!rc)
            rc = read_at(v, &edge, 1, names->sh_offset + names->sh_size - 1);
        if (!rc && edge != 0)
            rc = wrong(v, "end of the section names", "NUL", (unsigned char)edge);
        for (size_t i = 1; !rc && i < n; i++)
            if (s[i].sh_name >= names->sh_size)
                rc = wrong(v, "name of a section", "an offset in the names", s[i].sh_name);
    }
    free(s);
    return rc;
}

static uint64_t padded(uint64_t n, uint64_t align)
{
    return (n + align - 1) & ~(align - 1);
}

/* Look for our note among those of one segment. */
static exj_code find_note(const struct view *v, const Elf64_Phdr *p, exj_note *ret, bool *found)
{
    uint64_t align = p->p_align == 8 ? 8 : 4;
    uint64_t at = 0;
    char *notes;
    exj_code rc;

    if (p->p_filesz > NOTES_MAX)
        return wrong(v, "size of the notes", "at most 65536", p->p_filesz);
    if (p->p_filesz == 0)
        return EXJ_OK;
    notes = malloc((size_t)p->p_filesz);
    if (!notes)
        return exj_err_set(v->err, EXJ_NOMEM, "%s: out of memory", v->shown);
    rc = read_at(v, notes, (size_t)p->p_filesz, p->p_offset);
    while (!rc && !*found && p->p_filesz - at >= sizeof(Elf64_Nhdr)) {
        Elf64_Nhdr h;
        uint64_t name = at + sizeof h, body, next;

        memcpy(&h, notes + at, sizeof h);
        body = padded(name + h.n_namesz, align);
        next = padded(body + h.n_descsz, align);
        if (name + h.n_namesz > p->p_filesz || body + h.n_descsz > p->p_filesz) {
            rc = exj_err_set(v->err, EXJ_INVALID, "%s: a note runs over its segment", v->shown);
        } else if (h.n_type == v->wanted->type && h.n_namesz == sizeof EXJ_NOTE_OWNER &&
                   memcmp(notes + name, EXJ_NOTE_OWNER, sizeof EXJ_NOTE_OWNER) == 0) {
            uint32_t w[6] = { 0 };

            if (h.n_descsz < sizeof w)
                rc = wrong(v, "size of the exellix note", "24 or more", h.n_descsz);
            else
                memcpy(w, notes + body, sizeof w);
            ret->abi_major = w[0];
            ret->abi_minor = w[1];
            ret->kinds = w[2];
            ret->flags = w[3];
            *found = true;
        }
        if (next >= p->p_filesz)
            break;
        at = next;
    }
    free(notes);
    return rc;
}

static exj_code check_dynamic(const struct view *v, const Elf64_Phdr *p)
{
    uint64_t n = p->p_filesz / sizeof(Elf64_Dyn);

    if (n > HEADERS_MAX)
        return wrong(v, "dynamic entries", "at most 4096", n);
    for (uint64_t i = 0; i < n; i++) {
        Elf64_Dyn d;
        exj_code rc = read_at(v, &d, sizeof d, p->p_offset + i * sizeof d);

        if (rc)
            return rc;
        if (d.d_tag == DT_NULL)
            break;
        if (d.d_tag == DT_TEXTREL || (d.d_tag == DT_FLAGS && (d.d_un.d_val & DF_TEXTREL)))
            return exj_err_set(v->err, EXJ_INVALID,
                               "%s: has text relocations: wanted none (compile with -fPIC)",
                               v->shown);
        if (d.d_tag == DT_FLAGS_1 && (d.d_un.d_val & DF_1_PIE))
            return exj_err_set(v->err, EXJ_INVALID, "%s: a program: wanted a shared object "
                               "(link with -shared)", v->shown);
    }
    return EXJ_OK;
}

static exj_code check_segments(const struct view *v, const Elf64_Ehdr *h, exj_note *note)
{
    bool found = false, dynamic = false, loads = false;
    exj_code rc = EXJ_OK;

    for (uint64_t i = 0; !rc && i < h->e_phnum; i++) {
        Elf64_Phdr p;

        rc = read_at(v, &p, sizeof p, h->e_phoff + i * sizeof p);
        if (rc)
            break;
        if (!inside(v, p.p_offset, p.p_filesz))
            return exj_err_set(v->err, EXJ_INVALID,
                               "%s: cut short: segment %llu ends at %llu, the file has %llu bytes",
                               v->shown, (unsigned long long)i,
                               (unsigned long long)(p.p_offset + p.p_filesz),
                               (unsigned long long)v->bytes);
        loads |= p.p_type == PT_LOAD;
        if (p.p_type == PT_LOAD && p.p_filesz > p.p_memsz)
            return wrong(v, "segment in memory", "at least its bytes in the file", p.p_memsz);
        if (p.p_type == PT_NOTE && !found)
            rc = find_note(v, &p, note, &found);
        if (!rc && p.p_type == PT_DYNAMIC) {
            dynamic = true;
            rc = check_dynamic(v, &p);
        }
    }
    if (rc)
        return rc;
    if (!loads || !dynamic)
        return exj_err_set(v->err, EXJ_INVALID, "%s: nothing to load in it", v->shown);
    if (!found)
        return exj_err_set(v->err, EXJ_INVALID,
                           "%s: no exellix note: not a %s (wanted %s in one of its files)",
                           v->shown, v->wanted->what, v->wanted->macro);
    return EXJ_OK;
}

static exj_code check_note(const struct view *v, const exj_note *n)
{
    const struct passport *w = v->wanted;

    if (n->abi_major != w->major)
        return exj_err_set(v->err, EXJ_INVALID,
                           "%s: ABI major: wanted %u, found %u; build it against this release",
                           v->shown, w->major, n->abi_major);
    if (n->abi_minor > w->minor)
        return exj_err_set(v->err, EXJ_INVALID,
                           "%s: ABI minor: wanted at most %u.%u, found %u.%u; the %s needs a "
                           "newer exellix-jobs",
                           v->shown, w->major, w->minor, n->abi_major, n->abi_minor, w->what);
    if (w == &of_plugin && (n->kinds == 0 ||
                            (n->kinds & ~((1u << EXJ_KIND_GRAPH_ENGINE) |
                                          (1u << EXJ_KIND_SOURCE_RESOLVER) |
                                          (1u << EXJ_KIND_EVENT_SINK)))))
        return wrong(v, "kinds in the note", "1u << EXJ_KIND_… or-ed", n->kinds);
    return EXJ_OK;
}

static exj_code hash_file(const struct view *v, char ret[65])
{
    static const size_t chunk = 64 * 1024;
    char *p = malloc(chunk);
    exj_sha256 sum;
    exj_code rc = EXJ_OK;

    if (!p)
        return exj_err_set(v->err, EXJ_NOMEM, "%s: out of memory", v->shown);
    exj_sha256_init(&sum);
    for (uint64_t at = 0; !rc && at < v->bytes;) {
        size_t n = v->bytes - at < chunk ? (size_t)(v->bytes - at) : chunk;

        rc = read_at(v, p, n, at);
        if (!rc)
            exj_sha256_update(&sum, p, n);
        at += n;
    }
    exj_sha256_final_hex(&sum, ret);
    free(p);
    return rc;
}

static exj_code probe(int fd, const char *shown, const struct passport *wanted,
                      exj_probe *ret, exj_err *err)
{
    struct view v = { fd, shown, 0, err, wanted };
    exj_note note = { 0 };
    exj_probe found = { 0 };
    Elf64_Ehdr h;
    struct stat st;
    exj_code rc;

    if (fstat(fd, &st) < 0)
        return exj_err_set(err, EXJ_IO, "%s: %s", shown, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return exj_err_set(err, EXJ_INVALID, "%s: not a regular file", shown);
    v.bytes = (uint64_t)st.st_size;
    if (v.bytes > BYTES_MAX)
        return wrong(&v, "size", "at most 268435456 bytes", v.bytes);
    rc = read_at(&v, &h, sizeof h, 0);
    if (!rc)
        rc = check_header(&v, &h);
    if (!rc)
        rc = check_sections(&v, &h);
    if (!rc)
        rc = check_segments(&v, &h, &note);
    if (!rc)
        rc = check_note(&v, &note);
    if (!rc)
        rc = hash_file(&v, found.sha256);
    if (rc)
        return rc;
    found.abi_major = note.abi_major;
    found.abi_minor = note.abi_minor;
    found.kinds = note.kinds;
    found.flags = note.flags;
    found.bytes = v.bytes;
    *ret = found;
    return EXJ_OK;
}

exj_code exj_probe_fd(int fd, const char *shown, exj_probe *ret, exj_err *err)
{
    return probe(fd, shown, &of_plugin, ret, err);
}

static exj_code probe_path(const char *path, const struct passport *wanted, exj_probe *ret,
                           exj_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not hold us */
    exj_code rc;

    if (fd < 0)
        return exj_err_set(err, errno == ENOENT ? EXJ_NOT_FOUND : EXJ_IO, "%s: %s", path,
                           strerror(errno));
    rc = probe(fd, path, wanted, ret, err);
    close(fd);
    return rc;
}

exj_code exj_probe_file(const char *path, exj_probe *ret, exj_err *err)
{
    return probe_path(path, &of_plugin, ret, err);
}

exj_code exj_probe_bootstrap(const char *path, exj_probe *ret, exj_err *err)
{
    return probe_path(path, &of_bootstrap, ret, err);
}

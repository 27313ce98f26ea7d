#include "config.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECRET_LEAST 16
#define SECRET_MOST 4096
#define HEADERS_MOST 32
#define HEADER_BYTES 4096
#define SECONDS_DEFAULT 10
#define CONNECT_DEFAULT 5
#define SECONDS_MOST 300

/* While it is read. */
struct reading {
    exj_webhook_config *c;
    char *secret_file; /* owned */
    int64_t seconds, connect_seconds, per_request;
    bool insecure;
    char *why;
};

static bool say(struct reading *r, const char *member, const char *wanted)
{
    snprintf(r->why, EXJ_WEBHOOK_WHY_BYTES, "config%s%s: %s", *member ? "." : "", member, wanted);
    return false;
}

/* ---- members ------------------------------------------------------------------------------ */

static bool take_text(struct reading *r, const char *member, exj_str value, char **ret)
{
    free(*ret);
    *ret = exj_json_to_text(value, NULL);
    return *ret || say(r, member, "wanted a text");
}

static bool take_number(struct reading *r, const char *member, exj_str value, int64_t most,
                        int64_t *ret)
{
    char wanted[60];

    if (exj_json_to_i64(value, ret) && *ret >= 1 && *ret <= most)
        return true;
    snprintf(wanted, sizeof wanted, "wanted an integer, 1 to %lld", (long long)most);
    return say(r, member, wanted);
}

static bool take_secret(struct reading *r, exj_str value)
{
    char *text = exj_json_to_text(value, &r->c->secret_n);

    r->c->secret = (unsigned char *)text;
    return text || say(r, "secret", "wanted a text");
}

/* A token of RFC 9110, and none that is ours. */
static bool is_free_name(const char *name)
{
    static const char *const ours[] = { "Host", "Content-Length", "Content-Type", "Connection",
                                        "Transfer-Encoding", "Expect", "User-Agent" };

    for (size_t k = 0; k < sizeof ours / sizeof *ours; k++)
        if (strcasecmp(name, ours[k]) == 0)
            return false;
    if (!*name || strncasecmp(name, "X-Exellix-", 10) == 0)
        return false;
    for (; *name; name++)
        if (!isalnum((unsigned char)*name) && !strchr("!#$%&'*+-.^_`|~", *name))
            return false;
    return true;
}

static bool is_clean(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            return false;
    return true;
}

/* Appends; false: no memory. */
static bool add_header(exj_webhook_config *c, const char *line)
{
    struct curl_slist *grown = curl_slist_append(c->headers, line);

    c->headers = grown ? grown : c->headers;
    return grown != NULL;
}

static bool take_headers(struct reading *r, exj_str value)
{
    static const char wanted[] = "wanted an object of at most 32 headers with texts of 4096 bytes; "
                                 "not Host, Content-*, Connection, Transfer-Encoding, Expect, "
                                 "User-Agent, X-Exellix-*";
    exj_json_cursor c = exj_json_members(value);
    exj_str key, one;
    unsigned n = 0;
    bool ok = exj_json_type(value) == '{';

    while (ok && exj_json_next_member(&c, &key, &one)) {
        char *name = exj_json_to_text(key, NULL), *text = exj_json_to_text(one, NULL);
        char line[HEADER_BYTES + 300];

        ok = ++n <= HEADERS_MOST && name && text && strlen(name) < 200 &&
             strlen(text) <= HEADER_BYTES && is_free_name(name) && is_clean(text);
        if (ok) { /* "Name;" is how curl is told of an empty one */
            snprintf(line, sizeof line, "%s%s%s", name, *text ? ": " : ";", text);
            ok = add_header(r->c, line);
            OPENSSL_cleanse(line, sizeof line);
        }
        free(name);
        free(text);
    }
    return ok || say(r, "headers", wanted);
}

static bool take_member(struct reading *r, exj_str key, exj_str value)
{
    if (exj_json_string_is(key, "url"))
        return take_text(r, "url", value, &r->c->url);
    if (exj_json_string_is(key, "secret"))
        return take_secret(r, value);
    if (exj_json_string_is(key, "secretFile"))
        return take_text(r, "secretFile", value, &r->secret_file);
    if (exj_json_string_is(key, "timeoutSeconds"))
        return take_number(r, "timeoutSeconds", value, SECONDS_MOST, &r->seconds);
    if (exj_json_string_is(key, "connectTimeoutSeconds"))
        return take_number(r, "connectTimeoutSeconds", value, SECONDS_MOST, &r->connect_seconds);
    if (exj_json_string_is(key, "eventsPerRequest"))
        return take_number(r, "eventsPerRequest", value, EXJ_SINK_EVENTS, &r->per_request);
    if (exj_json_string_is(key, "headers"))
        return take_headers(r, value);
    if (exj_json_string_is(key, "allowInsecure"))
        return exj_json_to_bool(value, &r->insecure) ||
               say(r, "allowInsecure", "wanted true or false");
    if (exj_json_string_is(key, "events") || exj_json_string_is(key, "graphs"))
        return true; /* the filter's */
    return say(r, "", "unknown member; wanted url, secret, secretFile, timeoutSeconds, "
                      "connectTimeoutSeconds, eventsPerRequest, headers, allowInsecure, events, "
                      "graphs");
}

/* ---- the whole ----------------------------------------------------------------------------- */

/* Without its last line end, so that `echo secret >file` does. */
static bool read_secret(struct reading *r)
{
    int fd = open(r->secret_file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    char wanted[300], *text = NULL;
    struct stat st;
    ssize_t n = -1;

    snprintf(wanted, sizeof wanted, "%.200s: ", r->secret_file);
    if (fd < 0 || fstat(fd, &st) != 0) {
        snprintf(wanted + strlen(wanted), 60, "%s", strerrordesc_np(errno));
    } else if (!S_ISREG(st.st_mode) || st.st_size > SECRET_MOST) {
        strcat(wanted, "wanted a file of at most 4096 bytes");
    } else if ((text = malloc(SECRET_MOST + 1)) && (n = read(fd, text, SECRET_MOST)) >= 0) {
        text[n] = '\0';
        if (n > 0 && text[n - 1] == '\n')
            text[--n] = '\0';
        r->c->secret = (unsigned char *)text;
        r->c->secret_n = (size_t)n;
        r->c->secret_is_open = st.st_mode & 0007;
    } else {
        strcat(wanted, "cannot be read");
        free(text);
    }
    if (fd >= 0)
        close(fd);
    return n >= 0 || say(r, "secretFile", wanted);
}

static bool is_loopback(const char *host)
{
    struct in_addr four;
    struct in6_addr six;
    char bare[64] = "";

    if (host[0] == '[' && strlen(host) < sizeof bare) {
        snprintf(bare, sizeof bare, "%s", host + 1);
        bare[strcspn(bare, "]")] = '\0';
        return inet_pton(AF_INET6, bare, &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six);
    }
    if (inet_pton(AF_INET, host, &four) == 1)
        return (ntohl(four.s_addr) >> 24) == 127;
    return strcasecmp(host, "localhost") == 0;
}

/* Whole, http or https, no names or passwords in it, http only to this machine. */
static const char *wrong_in_url(const struct reading *r)
{
    CURLU *u = curl_url();
    char *scheme = NULL, *host = NULL, *part = NULL;
    const char *why = "wanted https://HOST[:PORT]/PATH";

    if (u && !curl_url_set(u, CURLUPART_URL, r->c->url, CURLU_NON_SUPPORT_SCHEME) &&
        !curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) && !curl_url_get(u, CURLUPART_HOST, &host, 0)) {
        bool plain = strcmp(scheme, "http") == 0;

        if (!plain && strcmp(scheme, "https") != 0)
            why = "wanted https, or http";
        else if (!curl_url_get(u, CURLUPART_USER, &part, 0))
            why = "a name or password in it would stand in logs; use headers.Authorization";
        else if (!curl_url_get(u, CURLUPART_FRAGMENT, &part, 0))
            why = "a fragment (#…) is not sent";
        else if (plain && !r->insecure && !is_loopback(host))
            why = "http goes unencrypted to another machine: use https, or set allowInsecure";
        else
            why = NULL;
    }
    curl_free(scheme);
    curl_free(host);
    curl_free(part);
    curl_url_cleanup(u);
    return why;
}

static bool judge(struct reading *r)
{
    exj_webhook_config *c = r->c;
    const char *why;

    if (!c->url)
        return say(r, "url", "is missing: wanted https://HOST[:PORT]/PATH");
    if ((why = wrong_in_url(r)))
        return say(r, "url", why);
    if (c->secret && r->secret_file)
        return say(r, "secretFile", "wanted secret or secretFile, not both");
    if (r->secret_file && !read_secret(r))
        return false;
    if (c->secret && (c->secret_n < SECRET_LEAST || c->secret_n > SECRET_MOST))
        return say(r, r->secret_file ? "secretFile" : "secret", "wanted 16 to 4096 bytes");
    c->timeout_ms = (long)r->seconds * 1000;
    c->connect_ms = (long)(r->connect_seconds < r->seconds ? r->connect_seconds : r->seconds) * 1000;
    c->per_request = (size_t)r->per_request;
    if (!add_header(c, "Content-Type: application/json") || !add_header(c, "Expect:"))
        return say(r, "", "out of memory");
    return true;
}

bool exj_webhook_config_read(exj_str json, exj_webhook_config *ret,
                             char why[EXJ_WEBHOOK_WHY_BYTES])
{
    struct reading r = { .c = ret, .why = why, .seconds = SECONDS_DEFAULT,
                         .connect_seconds = CONNECT_DEFAULT, .per_request = EXJ_SINK_EVENTS };
    exj_json_cursor at = exj_json_members(json);
    const char *wrong = NULL;
    exj_str key, value;
    bool ok = true;

    *ret = (exj_webhook_config){ 0 };
    while (ok && exj_json_next_member(&at, &key, &value))
        ok = take_member(&r, key, value);
    ok = ok && judge(&r);
    if (ok && (wrong = exj_sink_filter_read(json, &ret->filter))) {
        snprintf(why, EXJ_WEBHOOK_WHY_BYTES, "%s", wrong);
        ok = false;
    }
    free(r.secret_file);
    if (!ok)
        exj_webhook_config_release(ret);
    return ok;
}

void exj_webhook_config_release(exj_webhook_config *c)
{
    if (c->secret)
        OPENSSL_cleanse(c->secret, c->secret_n);
    free(c->secret);
    free(c->url);
    curl_slist_free_all(c->headers);
    exj_sink_filter_release(&c->filter);
    *c = (exj_webhook_config){ 0 };
}

#include "post.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <time.h>

#define READ_MOST ((size_t)64 * 1024)
#define STEP_MS 100
#define RETRY_AFTER_MOST 86400

struct exj_poster {
    const exj_webhook_config *config;
    CURLM *multi;
    CURL *easy;
    size_t body_read, head_read;
    bool enough; /* we stopped reading */
};

/* ---- what comes back ------------------------------------------------------------------------ */

/* The body tells us nothing; it is read so that the connection can be used again. */
static size_t take_body(char *p, size_t size, size_t n, void *user)
{
    exj_poster *x = user;

    (void)p;
    x->body_read += size * n;
    x->enough = x->body_read > READ_MOST;
    return x->enough ? 0 : size * n;
}

static size_t take_head(char *p, size_t size, size_t n, void *user)
{
    exj_poster *x = user;

    (void)p;
    x->head_read += size * n;
    return x->head_read > READ_MOST ? 0 : size * n;
}

/* ---- signing --------------------------------------------------------------------------------- */

/* "X-Exellix-Signature: t=…,v1=…": HMAC-SHA256 of "t.body". False: no memory. */
static bool sign(const exj_webhook_config *c, exj_str body, char *ret, size_t room)
{
    static const char hex[] = "0123456789abcdef";
    unsigned char sum[EVP_MAX_MD_SIZE];
    unsigned sum_n = 0;
    char stamp[24];
    int stamp_n = snprintf(stamp, sizeof stamp, "%lld", (long long)time(NULL));
    size_t all = (size_t)stamp_n + 1 + (size_t)body.n, at;
    char *text = malloc(all);
    bool ok;

    if (!text)
        return false;
    memcpy(text, stamp, (size_t)stamp_n);
    text[stamp_n] = '.';
    memcpy(text + stamp_n + 1, body.p, (size_t)body.n);
    ok = HMAC(EVP_sha256(), c->secret, (int)c->secret_n, (const unsigned char *)text, all, sum,
              &sum_n) != NULL;
    free(text);
    at = (size_t)snprintf(ret, room, "X-Exellix-Signature: t=%s,v1=", stamp);
    if (!ok || at + sum_n * 2 + 1 > room)
        return false;
    for (unsigned k = 0; k < sum_n; k++) {
        ret[at++] = hex[sum[k] >> 4];
        ret[at++] = hex[sum[k] & 15];
    }
    ret[at] = '\0';
    return true;
}

/* Ours, the config's, those of this request. NULL: no memory. */
static struct curl_slist *headers_of(const exj_webhook_config *c, exj_str body,
                                     const char *const *more, size_t n)
{
    struct curl_slist *list = NULL, *grown;
    char signature[160];

    for (const struct curl_slist *h = c->headers; h; h = h->next) {
        if (!(grown = curl_slist_append(list, h->data)))
            goto none;
        list = grown;
    }
    for (size_t k = 0; k < n; k++) {
        if (!(grown = curl_slist_append(list, more[k])))
            goto none;
        list = grown;
    }
    if (c->secret) {
        if (!sign(c, body, signature, sizeof signature) ||
            !(grown = curl_slist_append(list, signature)))
            goto none;
        list = grown;
    }
    return list;
none:
    curl_slist_free_all(list);
    return NULL;
}

/* ---- sending ---------------------------------------------------------------------------------- */

exj_poster *exj_poster_new(const exj_webhook_config *config)
{
    exj_poster *x = calloc(1, sizeof *x);

    if (!x)
        return NULL;
    x->config = config;
    x->multi = curl_multi_init();
    x->easy = curl_easy_init();
    if (!x->multi || !x->easy) {
        exj_poster_free(x);
        return NULL;
    }
    return x;
}

void exj_poster_free(exj_poster *x)
{
    if (!x)
        return;
    curl_easy_cleanup(x->easy);
    curl_multi_cleanup(x->multi);
    free(x);
}

void exj_poster_wake(exj_poster *x)
{
    curl_multi_wakeup(x->multi);
}

static long left_ms(uint64_t deadline_ns)
{
    struct timespec now;
    uint64_t ns;

    if (deadline_ns == UINT64_MAX)
        return LONG_MAX;
    clock_gettime(CLOCK_MONOTONIC, &now);
    ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    if (ns >= deadline_ns)
        return 1;
    return (long)((deadline_ns - ns) / 1000000u) + 1;
}

static void prepare(exj_poster *x, exj_str body, struct curl_slist *headers, uint64_t deadline_ns,
                    char *trouble)
{
    const exj_webhook_config *c = x->config;
    CURL *e = x->easy;
    long left = left_ms(deadline_ns);

    curl_easy_reset(e); /* keeps the connection */
    x->body_read = x->head_read = 0;
    x->enough = false;
    curl_easy_setopt(e, CURLOPT_URL, c->url);
    curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(e, CURLOPT_PROXY, "");
    curl_easy_setopt(e, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(e, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(e, CURLOPT_USERAGENT, "exellix-jobs-sink-webhook/1.0");
    curl_easy_setopt(e, CURLOPT_POST, 1L);
    curl_easy_setopt(e, CURLOPT_POSTFIELDS, body.p);
    curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body.n);
    curl_easy_setopt(e, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, c->timeout_ms < left ? c->timeout_ms : left);
    curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, c->connect_ms < left ? c->connect_ms : left);
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, x);
    curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, take_head);
    curl_easy_setopt(e, CURLOPT_HEADERDATA, x);
    curl_easy_setopt(e, CURLOPT_ERRORBUFFER, trouble);
}

/* Until it ended or somebody wants it to stop. */
static CURLcode run(exj_poster *x, int32_t (*stop)(void *user), void *user, int32_t *ret_stopped)
{
    CURLcode rc = CURLE_FAILED_INIT;
    int running = 1, left;
    CURLMsg *m;

    *ret_stopped = 0;
    if (curl_multi_add_handle(x->multi, x->easy) != CURLM_OK)
        return CURLE_OUT_OF_MEMORY;
    while (running && !(*ret_stopped = stop(user))) {
        if (curl_multi_perform(x->multi, &running) != CURLM_OK)
            break;
        if (running && curl_multi_poll(x->multi, NULL, 0, STEP_MS, NULL) != CURLM_OK)
            break;
    }
    while ((m = curl_multi_info_read(x->multi, &left)))
        if (m->msg == CURLMSG_DONE)
            rc = m->data.result;
    curl_multi_remove_handle(x->multi, x->easy);
    return rc;
}

static void judge(exj_poster *x, CURLcode rc, const char *trouble, exj_post_answer *ret)
{
    curl_off_t after = 0;
    long status = 0;

    curl_easy_getinfo(x->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(x->easy, CURLINFO_RETRY_AFTER, &after);
    /* Whoever says more than we want to hear has answered all the same. */
    if (rc != CURLE_OK && !(rc == CURLE_WRITE_ERROR && x->enough)) {
        snprintf(ret->text, sizeof ret->text, "%s",
                 rc == CURLE_WRITE_ERROR ? "the head of the answer is larger than 64 KiB"
                 : *trouble              ? trouble
                                         : curl_easy_strerror(rc));
        return;
    }
    ret->accepted = status >= 200 && status < 300;
    ret->reached = status >= 400 && status < 500 && status != 429 && status != 408;
    if (status >= 300 && status < 400)
        snprintf(ret->text, sizeof ret->text, "answered %ld: redirects are not followed", status);
    else
        snprintf(ret->text, sizeof ret->text, "answered %ld", status);
    if (!ret->accepted && after > 0)
        ret->retry_after = after < RETRY_AFTER_MOST ? (int64_t)after : RETRY_AFTER_MOST;
}

void exj_poster_send(exj_poster *x, exj_str body, const char *const *headers, size_t headers_n,
                     uint64_t deadline_ns, int32_t (*stop)(void *user), void *user,
                     exj_post_answer *ret)
{
    struct curl_slist *all = headers_of(x->config, body, headers, headers_n);
    char trouble[CURL_ERROR_SIZE] = "";
    CURLcode rc;

    *ret = (exj_post_answer){ 0 };
    if (!all) {
        snprintf(ret->text, sizeof ret->text, "out of memory");
        return;
    }
    prepare(x, body, all, deadline_ns, trouble);
    rc = run(x, stop, user, &ret->stopped);
    if (!ret->stopped)
        judge(x, rc, trouble, ret);
    curl_easy_setopt(x->easy, CURLOPT_HTTPHEADER, NULL);
    curl_easy_setopt(x->easy, CURLOPT_ERRORBUFFER, NULL);
    curl_slist_free_all(all);
}

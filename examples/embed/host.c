/* examples/embed/host.c - a host bootstrap: the operator's own wiring of the daemon.
 *
 *   cc -shared -fPIC host.c words.c $(pkg-config --cflags exellix-plugin) -o host.so
 *   WORDS_FILE=text.txt EXELLIX_JOBS_HOST_BOOTSTRAP=./host.so exellix-jobs run
 *
 * Brings the two plugins of words.h into the daemon, makes their engine the executor unless
 * another was chosen, and applies their documents for WORDS_FILE.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "words.h"

#include "exellix/jobs.h"

static exj_jobs_code refuse(const exj_host_config_api *api, const char *text)
{
    api->error(api->ctx, exj_text(text));
    return EXJ_JOBS_INVALID;
}

static exj_jobs_code configure(void *ctx, const exj_host_config_api *api)
{
    static const char executor[] = "EXELLIX_JOBS_GRAPH_ENGINE_BOOTSTRAP";
    const char *given = getenv("WORDS_FILE");
    char *file = given ? realpath(given, NULL) : NULL;
    exj_json_out documents = EXJ_JSON_OUT_INIT;
    exj_jobs_code rc;

    (void)ctx;
    if (!file)
        return refuse(api, given ? "WORDS_FILE: no such file"
                                 : "WORDS_FILE: wanted the file to read, found nothing");
    words_documents(file, &documents);
    free(file);
    rc = documents.failed ? EXJ_JOBS_NOMEM
                          : api->add_plugins(api->ctx, "words", &words_bundle);
    if (rc == EXJ_JOBS_OK && !api->setting(api->ctx, executor))
        rc = api->set(api->ctx, executor, WORDS_ENGINE);
    if (rc == EXJ_JOBS_OK)
        rc = api->apply(api->ctx, documents.p, documents.n);
    exj_json_out_release(&documents);
    return rc; /* what failed has left its text with the host */
}

static void started(void *ctx, const exj_host_worker *w)
{
    (void)ctx;
    fprintf(stderr, "words: worker %s runs\n", w->worker_id);
}

static void stopping(void *ctx)
{
    (void)ctx;
    fprintf(stderr, "words: stopping\n");
}

static const exj_host_bootstrap table = {
    .size_of = EXJ_SIZE(exj_host_bootstrap, stopping),
    .abi_minor = EXJ_HOST_MINOR,
    .name = "words",
    .version = "1.0.0",
    .configure = configure,
    .started = started,
    .stopping = stopping,
};
EXJ_HOST_EXPORT(table)

/* core/plugin/remote_absent.c - until remote.c is there: no plugin hosts. */
#include "core/plugin/guest.h"

#pragma weak exj_remote_describe
#pragma weak exj_remote_plugins_free
#pragma weak exj_remote_vt

exj_code exj_remote_describe(const exj_remote_settings *s, exj_lane lane, const char *copy,
                             const char *shown, exj_remote_plugin **ret, size_t *ret_len,
                             exj_err *err)
{
    (void)s, (void)copy, (void)ret, (void)ret_len;
    return exj_err_set(err, EXJ_UNSUPPORTED, "%s: isolation %s is not here yet", shown,
                       exj_lane_word(lane));
}

void exj_remote_plugins_free(exj_remote_plugin *p, size_t n)
{
    (void)p, (void)n;
}

void exj_remote_vt(uint32_t has, exj_plugin *ret)
{
    (void)has, (void)ret;
}

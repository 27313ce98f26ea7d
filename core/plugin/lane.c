#include "core/plugin/lane.h"

static const char *const words[] = { "default", "in-process", "host", "sandbox" };

const char *exj_lane_word(exj_lane lane)
{
    return (unsigned)lane < sizeof words / sizeof *words ? words[lane] : "unknown";
}

exj_code exj_lane_parse(exj_slice word, exj_lane *ret, exj_err *err)
{
    for (unsigned k = EXJ_LANE_IN_PROCESS; k <= EXJ_LANE_SANDBOX; k++)
        if (exj_slice_is(word, words[k])) {
            *ret = (exj_lane)k;
            return EXJ_OK;
        }
    return exj_err_set(err, EXJ_INVALID,
                       "isolation \"%.*s\" is unknown; allowed: in-process, host, sandbox",
                       (int)(word.n < 64 ? word.n : 64), word.n ? word.p : "");
}

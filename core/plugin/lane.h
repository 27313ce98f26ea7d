/* core/plugin/lane.h - where a plugin's code runs. The same .so on every lane. */
#ifndef EXJ_CORE_PLUGIN_LANE_H
#define EXJ_CORE_PLUGIN_LANE_H

#include "core/base/str.h"

typedef enum exj_lane {
    EXJ_LANE_DEFAULT,    /* the operator's setting; in process for what we ship */
    EXJ_LANE_IN_PROCESS, /* L0: on the worker's thread; trusted like our own code */
    EXJ_LANE_HOST,       /* L1: a plugin host process, used again for the next call */
    EXJ_LANE_SANDBOX     /* L2: a plugin host process for each call, with no way out */
} exj_lane;

/* "default", "in-process", "host", "sandbox". */
const char *exj_lane_word(exj_lane lane);
/* Errors: EXJ_INVALID, listing the three words a person may write. */
exj_code exj_lane_parse(exj_slice word, exj_lane *ret, exj_err *err);

#endif /* EXJ_CORE_PLUGIN_LANE_H */

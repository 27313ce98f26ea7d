/* tests/model/table.c - prints the table of moves of core/job/state.c as moves.pml, which the
 * models of a row's life include. run.sh compares what this prints with the file beside it:
 * a move that is changed in the one place and not in the other is a failure. */
#include <stdio.h>

#include "core/job/state.h"

/* All that state.c needs of core/base, so that this links with nothing else. */
exj_code exj_err_set(exj_err *err, exj_code code, const char *format, ...)
{
    (void)err, (void)format;
    return code;
}

#define NAME(x) [EXJ_##x] = #x

static const char *const statuses[EXJ_STATUS_COUNT] = {
    NAME(QUEUED),  NAME(WAITING),   NAME(RUNNING),  NAME(COMPLETED), NAME(FAILED),
    NAME(BLOCKED), NAME(SUSPENDED), NAME(CANCELED), NAME(DROPPED),   NAME(PARKED),
};

#undef NAME
#define NAME(x) [EXJ_EV_##x] = #x

static const char *const events[EXJ_EV_COUNT] = {
    NAME(PROMOTE), NAME(CLAIM),   NAME(SUCCEED), NAME(FAIL_RETRY), NAME(FAIL_DEAD),
    NAME(BLOCK),   NAME(SUSPEND), NAME(RELEASE), NAME(REAP),       NAME(REAP_DEAD),
    NAME(RETRY),   NAME(CANCEL),  NAME(DROP),    NAME(RESUME),     NAME(PARK),
    NAME(UNPARK),  NAME(UNBLOCK), NAME(RERUN),   NAME(CANCEL_ASK),
};

int main(void)
{
    puts("/* moves.pml - the table of allowed moves. Printed by table.c from core/job/state.c;\n"
         " * `tests/model/run.sh --accept-table` writes it anew.\n"
         " *\n"
         " * MAY_x(s): the event x is allowed in the status s. INTO_x: where it leads. MOVE(x):\n"
         " * make it, and assert that the table allows it. */");
    for (int s = 0; s < EXJ_STATUS_COUNT; s++)
        printf("#define %s %d\n", statuses[s], s);
    printf("\n#define TERMINAL(s) (false");
    for (int s = 0; s < EXJ_STATUS_COUNT; s++)
        if (exj_status_is_terminal((exj_status)s))
            printf(" || s == %s", statuses[s]);
    puts(")\n");
    for (int e = 0; e < EXJ_EV_COUNT; e++) {
        exj_status to = EXJ_STATUS_COUNT;

        printf("#define MAY_%s(s) (false", events[e]);
        for (int s = 0; s < EXJ_STATUS_COUNT; s++)
            if (exj_state_move((exj_status)s, (exj_event)e, &to, NULL) == EXJ_OK)
                printf(" || s == %s", statuses[s]);
        puts(")");
        if (to == EXJ_STATUS_COUNT) {
            fprintf(stderr, "table: the event %s leads nowhere\n", events[e]);
            return 1;
        }
        printf("#define INTO_%s %s\n", events[e], statuses[to]);
    }
    puts("\nhidden byte TABLE = 1; /* gives the assertion its name */\n"
         "#define MOVE(x) assert(TABLE && MAY_##x(status)); status = INTO_##x");
    return 0;
}

/* A remote guest when memory is short: each allocation of a call's way fails once. */
#include "tests/plugins/house.h"
#include "tests/support/fault.h"

/* Make an instance, call twice (the second finds the host warm), free it. */
static void live(struct house *h, struct one *first, struct one *second, exj_code *rc)
{
    exj_guest *g = NULL;
    exj_err err = { 0 };

    *rc = exj_registry_find(h->r.registry, "guest", EXJ_KIND_GRAPH_ENGINE, &g, &err);
    if (*rc)
        return;
    h->i = NULL;
    *rc = exj_instance_new(g, EXJ_SLICE_LITERAL("{\"a\":1}"), &h->i, &err);
    if (*rc == EXJ_OK) {
        one_start(h, first);
        batch_wait(first->b, 1);
        one_start(h, second);
        batch_wait(second->b, 2);
        exj_instance_free(h->i);
    }
    exj_guest_release(g);
}

static void is_told(const struct one *o)
{
    if (o->result == EXJ_R_OK) {
        cr_assert_str_eq(o->answer, "echo");
        return;
    }
    cr_assert(o->result == EXJ_R_RETRY || o->result == EXJ_R_NOT_STARTED, "result %d: %s: %s",
              o->result, o->code, o->text);
}

Test(remote_faults, call_ends_once_whichever_allocation_fails)
{
    struct house *h = house_open(EXJ_LANE_HOST);
    long n, asked = 0;

    exj_instance_free(h->i);
    for (n = 1; n < 500; n++) {
        struct batch *b = batch_new(2);
        exj_code rc;

        exj_fault_arm(n);
        live(h, &b->all[0], &b->all[1], &rc);
        asked = exj_fault_disarm();
        if (rc == EXJ_OK) {
            cr_assert_eq(b->all[0].ends, 1);
            cr_assert_eq(b->all[1].ends, 1);
            is_told(&b->all[0]);
            is_told(&b->all[1]);
        }
        batch_free(b);
        if (asked < n)
            break;
    }
    cr_assert_gt(n, 5, "%ld allocations are too few to be true", n);
    cr_assert_lt(n, 500);
    cr_assert_eq(h->crashes, 0, "want of memory is no crash");
    house_close(h);
}

/* What a store keeps for event sinks: how far each is, what it has still to deliver, what it
 * gave up. */
#include "contract.h"

static exj_code save(struct fixture *f, const char *name, int64_t position,
                     const exj_sink_item *items, size_t len)
{
    exj_op op = { .kind = EXJ_OP_SINK_SAVE };

    op.u.sink.name = exj_slice_of(name);
    op.u.sink.position = position;
    op.u.sink.items = items;
    op.u.sink.len = len;
    return exj_store_do(f->s, &op, NULL);
}

static exj_sink_item item(exj_sink_fate fate, int64_t number, int64_t seq, uint32_t tries)
{
    return (exj_sink_item){ .fate = fate, .number = number, .seq = seq, .tries = tries,
                            .at = START + 1000 * tries, .error = exj_slice_of("answered 500"),
                            .body = exj_slice_of("{\"number\":1}") };
}

static exj_code on_dead(struct fixture *f, exj_op_kind kind, int64_t id)
{
    exj_op op = { .kind = kind };

    op.u.dead.id = id;
    return exj_store_do(f->s, &op, NULL);
}

/* "number/seq/tries/at;" of each, and whether texts came back. */
static bool list_held(void *user, const exj_undelivered_view *v)
{
    char *text = user;

    cr_assert(exj_slice_is(v->error, "answered 500"));
    cr_assert(exj_slice_is(v->body, "{\"number\":1}"));
    sprintf(text + strlen(text), "%d/%d/%u/%d;", (int)v->number, (int)v->seq, v->tries,
            (int)(v->at - START));
    return true;
}

static void holds(struct fixture *f, const char *sink, const char *wanted)
{
    char text[500] = "";

    expect_code(f->s->v->undelivered(f->s, exj_slice_of(sink), 100, list_held, text, NULL), EXJ_OK);
    cr_assert_str_eq(text, wanted);
}

/* "sink/number/seq/tries;" of each, and their ids, which grow. */
struct dead {
    int64_t ids[8];
    size_t len;
    char text[500];
};

static bool list_dead(void *user, const exj_dead_view *v)
{
    struct dead *d = user;
    size_t n = strlen(d->text);

    cr_assert(exj_slice_is(v->error, "answered 500"));
    cr_assert(exj_slice_is(v->body, "{\"number\":1}"));
    cr_assert(v->id > (d->len ? d->ids[d->len - 1] : 0));
    cr_assert_lt(d->len, 8);
    d->ids[d->len++] = v->id;
    snprintf(d->text + n, sizeof(d->text) - n, "%.*s/%d/%d/%u;", (int)v->sink.n, v->sink.p,
             (int)v->number, (int)v->seq, v->tries);
    return true;
}

static struct dead dead_are(struct fixture *f, const char *sink, int64_t after, size_t limit,
                            const char *wanted)
{
    struct dead d = { .len = 0 };

    expect_code(f->s->v->dead_page(f->s, exj_slice_of(sink), after, limit, list_dead, &d, NULL),
                EXJ_OK);
    cr_assert_str_eq(d.text, wanted);
    return d;
}

CONTRACT(sinks, a_position_and_what_is_held_survive_a_restart)
{
    const exj_sink_item items[] = { item(EXJ_SINK_HOLD, 7, 2, 1), item(EXJ_SINK_HOLD, 5, 1, 3) };
    int64_t at = -1;

    expect_code(f->s->v->sink_get(f->s, exj_slice_of("a"), &at, NULL), EXJ_NOT_FOUND);
    expect_int(at, -1);
    expect_code(save(f, "a", 9, items, 2), EXJ_OK);
    expect_code(save(f, "b", 4, NULL, 0), EXJ_OK);
    fixture_reopen(f);
    expect_code(f->s->v->sink_get(f->s, exj_slice_of("a"), &at, NULL), EXJ_OK);
    expect_int(at, 9);
    expect_code(f->s->v->sink_get(f->s, exj_slice_of("b"), &at, NULL), EXJ_OK);
    expect_int(at, 4);
    holds(f, "a", "5/1/3/3000;7/2/1/1000;");
    holds(f, "b", "");
}

CONTRACT(sinks, a_held_event_changes_ends_or_dies)
{
    const exj_sink_item first[] = { item(EXJ_SINK_HOLD, 1, 1, 1), item(EXJ_SINK_HOLD, 2, 2, 1),
                                    item(EXJ_SINK_HOLD, 3, 3, 1) };
    const exj_sink_item then[] = { item(EXJ_SINK_HOLD, 1, 1, 2), item(EXJ_SINK_DONE, 2, 2, 0),
                                   item(EXJ_SINK_DEAD, 3, 3, 10), item(EXJ_SINK_DEAD, 4, 4, 1),
                                   item(EXJ_SINK_DONE, 5, 5, 0) };
    struct dead all;

    expect_code(save(f, "a", 3, first, 3), EXJ_OK);
    expect_code(save(f, "b", 3, first, 3), EXJ_OK);
    expect_code(save(f, "a", 5, then, 5), EXJ_OK);
    holds(f, "a", "1/1/2/2000;");
    holds(f, "b", "1/1/1/1000;2/2/1/1000;3/3/1/1000;");
    all = dead_are(f, "", 0, 10, "a/3/3/10;a/4/4/1;");
    expect_int(dead_are(f, "a", all.ids[0], 10, "a/4/4/1;").ids[0], all.ids[1]);
    dead_are(f, "b", 0, 10, "");
    expect_int(dead_are(f, "", 0, 1, "a/3/3/10;").ids[0], all.ids[0]);
}

CONTRACT(sinks, a_dead_letter_is_replayed_or_dropped_once_and_its_id_is_never_used_again)
{
    const exj_sink_item dead[] = { item(EXJ_SINK_DEAD, 3, 3, 10), item(EXJ_SINK_DEAD, 4, 4, 10) };
    exj_op op = { .kind = EXJ_OP_DEAD_DROP };
    exj_err err = { 0 };
    struct dead old, new;
    char says[64];

    expect_code(save(f, "a", 4, dead, 2), EXJ_OK);
    old = dead_are(f, "", 0, 10, "a/3/3/10;a/4/4/10;");
    expect_code(on_dead(f, EXJ_OP_DEAD_REPLAY, old.ids[0]), EXJ_OK);
    holds(f, "a", "3/3/0/0;");
    expect_int(dead_are(f, "", 0, 10, "a/4/4/10;").ids[0], old.ids[1]);
    expect_code(on_dead(f, EXJ_OP_DEAD_REPLAY, old.ids[0]), EXJ_NOT_FOUND);
    expect_code(on_dead(f, EXJ_OP_DEAD_DROP, old.ids[1]), EXJ_OK);
    op.u.dead.id = old.ids[1];
    expect_code(exj_store_do(f->s, &op, &err), EXJ_NOT_FOUND);
    snprintf(says, sizeof(says), "no dead letter %" PRId64, old.ids[1]);
    cr_assert(strstr(err.text, says), "%s", err.text);
    holds(f, "a", "3/3/0/0;");
    expect_code(save(f, "a", 4, dead, 1), EXJ_OK);
    holds(f, "a", "");
    new = dead_are(f, "", 0, 10, "a/3/3/10;");
    cr_assert(new.ids[0] > old.ids[1], "an id comes again");
    fixture_reopen(f);
    expect_code(on_dead(f, EXJ_OP_DEAD_DROP, new.ids[0]), EXJ_OK);
    expect_code(save(f, "a", 4, dead, 1), EXJ_OK);
    cr_assert(dead_are(f, "", 0, 10, "a/3/3/10;").ids[0] > new.ids[0], "an id comes again");
}

CONTRACT(sinks, what_finds_no_room_among_the_dead_letters_is_held_and_comes_again)
{
    const exj_sink_item dead[] = { item(EXJ_SINK_DEAD, 3, 3, 10), item(EXJ_SINK_DEAD, 4, 4, 10),
                                   item(EXJ_SINK_DEAD, 5, 5, 10) };
    exj_op op = { .kind = EXJ_OP_SINK_SAVE };
    int64_t first;

    op.u.sink.name = exj_slice_of("a");
    op.u.sink.position = 5;
    op.u.sink.items = dead;
    op.u.sink.len = 3;
    op.u.sink.dead_most = 2;
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
    expect_int(op.u.sink.ret_kept, 1);
    first = dead_are(f, "", 0, 10, "a/3/3/10;a/4/4/10;").ids[0];
    holds(f, "a", "5/5/10/300000;");
    op.u.sink.name = exj_slice_of("b"); /* each sink has a room of its own */
    op.u.sink.len = 2;
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
    expect_int(op.u.sink.ret_kept, 0);
    expect_code(on_dead(f, EXJ_OP_DEAD_DROP, first), EXJ_OK);
    op.u.sink.name = exj_slice_of("a");
    op.u.sink.items = &dead[2];
    op.u.sink.len = 1;
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
    expect_int(op.u.sink.ret_kept, 0);
    holds(f, "a", "");
}

CONTRACT(sinks, names_and_pages_are_bounded)
{
    char name[66];

    memset(name, 'n', 65);
    name[65] = '\0';
    expect_code(save(f, "", 1, NULL, 0), EXJ_INVALID);
    expect_code(save(f, name, 1, NULL, 0), EXJ_INVALID);
    name[64] = '\0';
    expect_code(save(f, name, 1, NULL, 0), EXJ_OK);
    expect_code(f->s->v->undelivered(f->s, exj_slice_of("a"), 0, list_held, name, NULL),
                EXJ_INVALID);
    expect_code(f->s->v->undelivered(f->s, exj_slice_of("a"), 100001, list_held, name, NULL),
                EXJ_INVALID);
    expect_code(f->s->v->dead_page(f->s, exj_slice_of("a"), 0, 0, list_dead, name, NULL),
                EXJ_INVALID);
    expect_code(f->s->v->dead_page(f->s, exj_slice_of("a"), 0, 1001, list_dead, name, NULL),
                EXJ_INVALID);
}

/* tests/support/chaos_proxy.h - a TCP proxy between a MongoDB driver and its server,
 * which does to single commands what networks do.
 *
 * It knows the framing of MongoDB's wire protocol (OP_MSG and the OP_QUERY of a
 * handshake): whole messages are passed on, a reply belongs to its request, and a rule
 * picks requests by the name of their command. A client connects with exj_test_mongo_via,
 * so that it does not go around the proxy to the host that the server tells of.
 * Compressed messages are passed on unseen: ask for no compressors.
 *
 *     exj_proxy *p = exj_proxy_start(server_port, 0, seed);
 *     exj_proxy_rule rule = {
 *         .fault = EXJ_PROXY_CUT_REPLY, .command = "update", .times = 1
 *     };
 *     int id = exj_proxy_add(p, &rule);
 *     ... the next update is applied, and its caller sees a network error ...
 *     exj_proxy_hits(p, id) == 1
 *
 * At most 256 connections are open at once; more are closed at once.
 *
 * The proxy keeps its port while it refuses, so that a client may come back. What happens
 * by chance (permille) is decided by `seed` and the order of the requests.
 *
 * Threads: one thread of its own; every function may be called from any thread. A rule
 *          holds for requests that are read after exj_proxy_add returned.
 * Errors:  no socket, no thread: prints a line and aborts. A server that is not there is
 *          no error: its clients are cut.
 */
#ifndef EXJ_TESTS_SUPPORT_CHAOS_PROXY_H
#define EXJ_TESTS_SUPPORT_CHAOS_PROXY_H

#include <stdbool.h>
#include <stdint.h>

#define EXJ_PROXY_RULES 32

typedef enum exj_proxy_fault {
    EXJ_PROXY_CUT,          /* the request is lost: both sides are cut (RST) at once */
    EXJ_PROXY_CUT_REPLY,    /* the server has answered; both sides are cut, no reply */
    EXJ_PROXY_TORN_REQUEST, /* half of the request reaches the server, then as CUT */
    EXJ_PROXY_TORN_REPLY,   /* half of the reply reaches the client, then as CUT */
    EXJ_PROXY_DELAY, /* the request reaches the server `ms` late, also when the client
                      * has gone meanwhile: a late request */
    EXJ_PROXY_DELAY_REPLY, /* the reply reaches the client `ms` late */
    EXJ_PROXY_MUTE,        /* the request is lost; the connection stays open and silent */
    EXJ_PROXY_MUTE_REPLY,  /* the request is applied, its reply lost; then as MUTE */
    EXJ_PROXY_DRIP,        /* the reply comes byte by byte, one each `ms` */
    EXJ_PROXY_FAULTS
} exj_proxy_fault;

typedef struct exj_proxy_rule {
    exj_proxy_fault fault;
    char command[32];  /* first key of the command: "insert", "findAndModify"; "": every
                        * one but hello and its old names */
    unsigned skip;     /* so many matching requests pass first */
    unsigned times;    /* then so many are hit; 0: all */
    unsigned permille; /* chance of each of these, 1..1000; 0: as 1000 */
    unsigned ms;       /* of DELAY, DELAY_REPLY and DRIP */
} exj_proxy_rule;

typedef struct exj_proxy_stats {
    uint64_t connections, requests, replies; /* seen since the start */
    uint64_t open;                           /* connections now */
    uint64_t faults[EXJ_PROXY_FAULTS];       /* requests that rules picked */
} exj_proxy_stats;

typedef struct exj_proxy exj_proxy;

/* Listens on 127.0.0.1:`port` (0: a free one) and connects to 127.0.0.1:`server_port`.
 * Prints the seed to stderr. */
exj_proxy *exj_proxy_start(uint16_t server_port, uint16_t port, uint64_t seed);
uint16_t exj_proxy_port(const exj_proxy *p);
void exj_proxy_end(exj_proxy *p); /* cuts what is open; NULL is accepted */

/* The first rule that picks a request decides. Returns its number, or -1: EXJ_PROXY_RULES
 * are there. */
int exj_proxy_add(exj_proxy *p, const exj_proxy_rule *rule);
/* Removes all rules and ends refusing and muting; connections stay. */
void exj_proxy_clear(exj_proxy *p);
/* Requests that a rule picked; 0 for a rule that is not there. */
uint64_t exj_proxy_hits(exj_proxy *p, int rule);
/* Wait until the rule picked `hits` requests. False: `ms` passed. */
bool exj_proxy_wait_hits(exj_proxy *p, int rule, uint64_t hits, unsigned ms);

void exj_proxy_cut_all(exj_proxy *p);
/* On: new connections are refused (ECONNREFUSED); open ones live. */
void exj_proxy_refuse(exj_proxy *p, bool on);
/* On: whatever comes on connections, open and new, is swallowed, both ways. A connection
 * that was muted stays so for good; off means new ones work. */
void exj_proxy_mute(exj_proxy *p, bool on);
exj_proxy_stats exj_proxy_look(exj_proxy *p);

/* "cut-reply" <-> EXJ_PROXY_CUT_REPLY; EXJ_PROXY_FAULTS: there is no such word. */
const char *exj_proxy_fault_name(exj_proxy_fault f);
exj_proxy_fault exj_proxy_fault_by_name(const char *name);

#endif /* EXJ_TESTS_SUPPORT_CHAOS_PROXY_H */

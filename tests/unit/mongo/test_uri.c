#include "core/store/mongo/uri.h"

#include <criterion/criterion.h>
#include <stdio.h>

#include "core/base/log.h"

#define LEASE_MS 60000

static exj_err err;
static exj_mongo_uri u;

static exj_code judge(const char *text)
{
    exj_mongo_uri_release(&u);
    exj_err_clear(&err);
    return exj_mongo_uri_judge(text, LEASE_MS, 9, &u, &err);
}

static void refuses(const char *text, const char *words)
{
    cr_expect_eq(judge(text), EXJ_INVALID, "%s was taken", text);
    cr_expect_not_null(strstr(err.text, words), "%s: %s", text, err.text);
    cr_expect_null(strchr(err.text, '\n'));
    cr_expect_null(strstr(err.text, "ecret"), "%s", err.text);
    cr_expect_null(u.uri);
}

static int32_t number(const char *option)
{
    return mongoc_uri_get_option_as_int32(u.uri, option, -1);
}

Test(mongo_uri, what_the_store_needs_is_set)
{
    const mongoc_write_concern_t *wc;

    cr_assert_eq(judge("mongodb://ann:sec%40ret@h,i:1/db"), EXJ_OK, "%s", err.text);
    cr_expect_str_eq(u.shown, "mongodb://ann:(hidden)@h,i:1/db");
    cr_expect_str_eq(u.hosts, "h:27017,i:1");
    cr_expect_str_eq(u.user, "ann");
    cr_expect_str_eq(u.notes, "");
    cr_expect_str_eq(mongoc_uri_get_password(u.uri), "sec@ret");
    cr_expect_str_eq(mongoc_uri_get_appname(u.uri), "exellix-jobs");
    cr_expect_not(mongoc_uri_get_option_as_bool(u.uri, "retrywrites", true));
    cr_expect_not(mongoc_uri_get_option_as_bool(u.uri, "retryreads", true));
    cr_expect_eq(number("serverselectiontimeoutms"), 5000);
    cr_expect_eq(number("connecttimeoutms"), 3000);
    cr_expect_eq(number("sockettimeoutms"), 20000);
    cr_expect_eq(number("waitqueuetimeoutms"), 5000);
    cr_expect_eq(number("maxpoolsize"), 9);
    wc = mongoc_uri_get_write_concern(u.uri);
    cr_expect(mongoc_write_concern_get_wmajority(wc));
    cr_expect_eq(mongoc_write_concern_get_wtimeout(wc), 18000);
    cr_expect_eq(u.wtimeout_ms, 18000);
    exj_mongo_uri_release(&u);
}

Test(mongo_uri, a_short_lease_leaves_five_seconds_for_an_answer)
{
    cr_assert_eq(exj_mongo_uri_judge("mongodb://h", 1000, 3, &u, &err), EXJ_OK, "%s", err.text);
    cr_expect_eq(u.socket_ms, 5000);
    cr_expect_eq(u.wtimeout_ms, 3000);
    cr_expect_null(u.user);
    exj_mongo_uri_release(&u);
}

Test(mongo_uri, what_the_uri_says_wins_where_that_is_safe)
{
    cr_assert_eq(judge("mongodb://h/?appName=mine&serverSelectionTimeoutMS=700&CONNECTTIMEOUTMS=600"
                       "&socketTimeoutMS=10000&wtimeoutMS=4000&waitQueueTimeoutMS=50&maxPoolSize=20"
                       "&retryReads=true&w=majority&journal=true&readConcernLevel=majority"
                       "&replicaSet=rs&readPreference=primary&tls=false"),
                 EXJ_OK, "%s", err.text);
    cr_expect_str_eq(mongoc_uri_get_appname(u.uri), "mine");
    cr_expect_eq(number("serverselectiontimeoutms"), 700);
    cr_expect_eq(number("connecttimeoutms"), 600);
    cr_expect_eq(number("sockettimeoutms"), 10000);
    cr_expect_eq(number("waitqueuetimeoutms"), 50);
    cr_expect_eq(number("maxpoolsize"), 20);
    cr_expect_eq(u.clients, 20);
    cr_expect_eq(u.wtimeout_ms, 4000);
    cr_expect(mongoc_uri_get_option_as_bool(u.uri, "retryreads", false));
    cr_expect_str_eq(u.notes, "");
    exj_mongo_uri_release(&u);
}

Test(mongo_uri, an_address_is_taken_in_each_form)
{
    static const char *const good[] = { "mongodb://[::1]:27017", "mongodb://[::1]/",
                                        "mongodb://%2Ftmp%2Fm.sock/", "mongodb://10.0.0.1:1/a",
                                        "mongodb+srv://c.example.net/?replicaSet=rs",
                                        "mongodb://ann@h/?authMechanism=MONGODB-X509&tls=true" };

    for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
        cr_expect_eq(judge(good[i]), EXJ_OK, "%s: %s", good[i], err.text);
    exj_mongo_uri_release(&u);
}

Test(mongo_uri, a_driver_that_retries_is_told_not_to)
{
    cr_assert_eq(judge("mongodb+srv://a:b@c.d.net/?retryWrites=true&w=majority"), EXJ_OK);
    cr_expect_not(mongoc_uri_get_option_as_bool(u.uri, "retrywrites", true));
    cr_expect_str_eq(u.notes,
                     "retryWrites=true is not followed: lost answers are read back instead\n");
    exj_mongo_uri_release(&u);
}

Test(mongo_uri, weak_tls_is_said_aloud)
{
    cr_assert_eq(judge("mongodb://h/?tls=true&tlsAllowInvalidCertificates=true"), EXJ_OK, "%s",
                 err.text);
    cr_expect_not_null(strstr(u.notes, "tlsAllowInvalidCertificates=true: anybody"), "%s",
                       u.notes);
    cr_assert_eq(judge("mongodb://h/?tls=true&tlsInsecure=true"), EXJ_OK, "%s", err.text);
    cr_expect_not_null(strstr(u.notes, "tlsInsecure=true: anybody"), "%s", u.notes);
    exj_mongo_uri_release(&u);
}

Test(mongo_uri, a_wrong_scheme_is_named)
{
    refuses("", "it must begin with mongodb:// or mongodb+srv://");
    refuses("mongo://ann:secret@h", "mongo://ann:(hidden)@h: it must begin with mongodb://");
    refuses("mongodb:/h", "it must begin with");
    refuses("postgres://h", "it must begin with");
    refuses("h:27017", "it must begin with");
}

Test(mongo_uri, a_password_with_bare_signs_is_refused_and_not_shown)
{
    refuses("mongodb://ann:p@secret@h", "the password has a bare '@' in it: write %40");
    refuses("mongodb://ann:p/secret@h", "has a bare '/' in it: write %2F");
    refuses("mongodb://ann:p?secret@h", "has a bare '?' in it: write %3F");
    refuses("mongodb://ann:p:secret@h", "the password has a bare ':' in it: write %3A");
    refuses("mongodb://ann:p#secret@h", "the password has a bare '#' in it: write %23");
    refuses("mongodb://ann:p%secret@h", "the password has a bare '%' in it: write %25");
    refuses("mongodb://ann:p@x/secret@h/db", "the password has a bare '@' in it");
    refuses("mongodb://ann:p@secret?secret=1@h/db", "the password has a bare '@' in it");
    refuses("mongodb://ann:1/?secret=p@h/db", "has a bare '/' in it: write %2F");
    refuses("mongodb://ann/b:secret@h", "has a bare '/' in it: write %2F");
    refuses("mongodb://ann:@h", "the password is empty");
    refuses("mongodb://:secret@h", "no user's name in front of '@'");
}

Test(mongo_uri, a_missing_or_odd_host_is_named)
{
    refuses("mongodb://", "no host: write mongodb://HOST:PORT");
    refuses("mongodb:///db", "no host");
    refuses("mongodb://ann:secret@", "no host");
    refuses("mongodb://ann:secret", "if that is a password, the host is missing");
    refuses("mongodb://ann:secret/db", "if that is a password, the host is missing");
    refuses("mongodb://h,/", "a host's name is missing");
    refuses("mongodb://:27017", "a host's name is missing");
    refuses("mongodb://h:0", "the port of h must be a number from 1 to 65535");
    refuses("mongodb://ann:secret@h:99999", "the port of h must be a number from 1 to 65535");
    refuses("mongodb://ann:secret@h:x", "the port of h must be a number");
    refuses("mongodb://a b", "the host a b has a ' ' in it");
    refuses("mongodb://[::1", "wants its ']'");
    refuses("mongodb+srv://h:1", "mongodb+srv:// takes one name without a port");
    refuses("mongodb+srv://h.x.y,i.x.y", "mongodb+srv:// takes one name");
    refuses("mongodb://h?w=majority", "between the hosts and '?' a '/' is wanted");
    refuses("mongodb://h\n/", "control byte");
}

Test(mongo_uri, a_bad_option_is_named_with_what_is_allowed)
{
    refuses("mongodb://h/?replicaset", "each option is NAME=VALUE");
    refuses("mongodb://h/?replicaSet=", "the option replicaSet has no value");
    refuses("mongodb://h/?repliaSet=rs", "repliaSet is no option; did you mean replicaSet?");
    refuses("mongodb://h/?frobnicate=1", "frobnicate is no option");
    refuses("mongodb://h/?tls=maybe", "tls=maybe: wanted true or false");
    refuses("mongodb://h/?connectTimeoutMS=1s", "connectTimeoutMS=1s: wanted a whole number");
    refuses("mongodb://h/?w=majority&W=majority", "the option w is given twice");
    refuses("mongodb://ann:secret@h/?authMechanism=FOO", "authMechanism=FOO: wanted SCRAM");
}

Test(mongo_uri, what_would_break_a_promise_is_refused_with_the_reason)
{
    refuses("mongodb://h/?w=0", "w=0: wanted majority: what fewer servers have can be undone");
    refuses("mongodb://h/?w=1", "w=1: wanted majority");
    refuses("mongodb://h/?journal=false", "journal=false: wanted true");
    refuses("mongodb://h/?readPreference=secondary", "readPreference=secondary: wanted primary");
    refuses("mongodb://h/?readConcernLevel=available", "wanted local|majority");
    refuses("mongodb://h/?minPoolSize=2", "the option minPoolSize cannot be used");
    refuses("mongodb://h/?maxPoolSize=2", "the store keeps 9 connections");
    refuses("mongodb://h/?socketTimeoutMS=0", "socketTimeoutMS=0: wanted a whole number from 1");
    refuses("mongodb://h/?socketTimeoutMS=61000", "wanted 250 to 60000");
    refuses("mongodb://h/?socketTimeoutMS=5000&wTimeoutMS=5000", "less than socketTimeoutMS");
}

Test(mongo_uri, what_the_driver_refuses_is_refused)
{
    refuses("mongodb://h,i/?directConnection=true", "directConnection");
    refuses("mongodb://ann:secret@h,i/?directConnection=true", "the driver does not accept it");
    refuses("mongodb://h/a.b", "database");
}

static char said[512];

static void keep(exj_log_level level, const char *area, const char *message)
{
    cr_expect_eq(level, EXJ_LOG_DEBUG);
    snprintf(said, sizeof(said), "%s: %s", area, message);
}

Test(mongo_uri, no_part_of_a_password_is_ever_said)
{
    static const char signs[] = "@:/?#[]%&=,;. a1";
    static const char *const forms[][2] = { { "mongodb://ann:", "@h" },
                                            { "mongodb://ann:", "@h:1,i/db?w=0" },
                                            { "mongodb+srv://ann:", "@h.x.y/?tls=1" },
                                            { "mongodb:/ann:", "@h/" } };
    uint64_t seed = 20260102;

    exj_log_setup(EXJ_LOG_DEBUG, false);
    exj_log_divert(keep);
    fprintf(stderr, "seed %lu\n", (unsigned long)seed);
    for (int i = 0; i < 20000; i++) {
        char text[80], password[24];
        size_t n = 0, form;

        seed = seed * 6364136223846793005u + 1442695040888963407u;
        for (uint64_t bits = seed >> 8; n < 8; bits >>= 4)
            password[n++] = signs[bits & 15];
        memcpy(password + (seed >> 60) % 9, "QZX", 4);
        n = strlen(password);
        for (uint64_t bits = seed >> 20; n < 14; bits >>= 5)
            password[n++] = signs[bits & 15];
        password[n] = '\0';
        form = (seed >> 40) % 4;
        snprintf(text, sizeof(text), "%s%s%s", forms[form][0], password, forms[form][1]);
        if (judge(text) == EXJ_OK)
            cr_assert_null(strstr(u.shown, "QZX"), "%s: %s", text, u.shown);
        else
            cr_assert_null(strstr(err.text, "QZX"), "%s: %s", text, err.text);
        cr_assert_null(strstr(said, "QZX"), "%s: %s", text, said);
    }
    exj_mongo_uri_release(&u);
}

Test(mongo_uri, what_the_driver_says_goes_to_the_log)
{
    exj_log_setup(EXJ_LOG_DEBUG, false);
    exj_log_divert(keep);
    cr_assert_eq(judge("mongodb://h/?compressors=frob"), EXJ_OK, "%s", err.text);
    cr_expect_not_null(strstr(said, "mongo: the driver says"), "%s", said);
    cr_expect_not_null(strstr(said, "frob"), "%s", said);
    exj_mongo_uri_release(&u);
}

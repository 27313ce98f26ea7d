#include "core/base/hide.h"

#include <criterion/criterion.h>
#include <stdio.h>

static const char *shown(const char *uri)
{
    static exj_buf b;

    exj_buf_reset(&b);
    exj_buf_add_text(&b, "");
    cr_assert(exj_hide_password(uri, &b));
    return b.p;
}

#define shows(uri, wanted) cr_expect_str_eq(shown(uri), wanted, "%s", shown(uri))

Test(hide, an_address_without_a_password_stays_as_it_is)
{
    shows("", "");
    shows("mongodb://h", "mongodb://h");
    shows("mongodb://h:27017,i:1/db?w=majority", "mongodb://h:27017,i:1/db?w=majority");
    shows("mongodb://ann@h:27017", "mongodb://ann@h:27017");
    shows("mongodb://[::1]:27017,[fe80::2]/?tls=true",
          "mongodb://[::1]:27017,[fe80::2]/?tls=true");
    shows("mongodb+srv://c.example.net/?appName=a", "mongodb+srv://c.example.net/?appName=a");
}

Test(hide, a_password_is_hidden_and_nothing_else)
{
    shows("mongodb://ann:pw@h/db?w=1", "mongodb://ann:(hidden)@h/db?w=1");
    shows("mongodb+srv://ann:pw@h", "mongodb+srv://ann:(hidden)@h");
    shows("mongodb://:pw@h", "mongodb://:(hidden)@h");
    shows("mongodb://ann:p%40w@h", "mongodb://ann:(hidden)@h");
}

Test(hide, a_password_with_bare_signs_in_it_is_hidden_whole)
{
    static const char *const signs[] = { "se@cret",  "se/cret",   "se?cret",   "se:cret",
                                         "s@e/cret", "s?e@cret",  "s/e?cret",  "s?e&cret",
                                         "s://cret", "s@e?c@ret", "[secret",   "s]ecret",
                                         "s&a=cret", "?s&a=b@cret" };
    static const char *const around[][2] = { { "mongodb://ann:", "@h/db" },
                                             { "mongodb:/ann:", "@h" },
                                             { "mongo//ann:", "@h/?w=1" },
                                             { "ann:", "@h" },
                                             { "mongodb://ann:", "@h/?appName=a@b" } };

    for (size_t i = 0; i < sizeof(signs) / sizeof(*signs); i++)
        for (size_t a = 0; a < sizeof(around) / sizeof(*around); a++) {
            char uri[128];

            snprintf(uri, sizeof(uri), "%s%s%s", around[a][0], signs[i], around[a][1]);
            cr_expect_null(strstr(shown(uri), "ret"), "%s -> %s", uri, shown(uri));
        }
}

Test(hide, a_forgotten_host_shows_no_password)
{
    shows("mongodb://ann:secret", "mongodb://ann:(hidden)");
    shows("mongodb://ann:secret/db", "mongodb://ann:(hidden)");
    shows("mongodb://h:1,ann:se&cret", "mongodb://h:1,ann:(hidden)");
}

Test(hide, values_of_secret_options_are_hidden)
{
    shows("mongodb://h/?tlsCertificateKeyFilePassword=s&w=1",
          "mongodb://h/?tlsCertificateKeyFilePassword=(hidden)&w=1");
    shows("mongodb://a:b@h/?w=1&authMechanismProperties=AWS_SESSION_TOKEN:t",
          "mongodb://a:(hidden)@h/?w=1&authMechanismProperties=(hidden)");
    shows("mongodb://h/?sslClientCertificateKeyPassword=s@cret",
          "mongodb://h/?sslClientCertificateKeyPassword=(hidden)");
}

#include "core/store/mongo/verdict.h"

#include <mongoc/mongoc.h>

enum sort {
    BEFORE,   /* turned away before anything was done, whatever the command */
    TURNED,   /* nothing of this document was done; earlier ones of the command may be */
    REFUSES,  /* refused before anything was done, whatever the command */
    DOCUMENT, /* this document is refused; earlier ones of the command may be done */
    TWICE     /* a duplicate key */
};

#define ROLE "give the user of MONGO_URI the role readWrite on execution_db and config_db"
#define LOGIN "check user, password and authSource in MONGO_URI"
#define INDEX "`exellix-jobs store init` creates the indexes"
#define DISK "make room on the server's disk"
#define PRIMARY "another server is being elected; it is tried again"

/* The server's codes that leave no doubt. All others do. */
static const struct known {
    uint32_t code;
    enum sort sort;
    const char *advice;
} known[] = {
    { 2, DOCUMENT, NULL },                /* BadValue */
    { 9, REFUSES, NULL },                 /* FailedToParse */
    { 11, BEFORE, LOGIN },                /* UserNotFound */
    { 13, REFUSES, ROLE },                /* Unauthorized */
    { 14, DOCUMENT, NULL },               /* TypeMismatch */
    { 18, BEFORE, LOGIN },                /* AuthenticationFailed */
    { 20, REFUSES, NULL },                /* IllegalOperation */
    { 22, DOCUMENT, NULL },               /* InvalidBSON */
    { 24, TURNED, NULL },                 /* LockTimeout */
    { 26, REFUSES, NULL },                /* NamespaceNotFound */
    { 27, REFUSES, INDEX },               /* IndexNotFound */
    { 28, DOCUMENT, NULL },               /* PathNotViable */
    { 40, REFUSES, NULL },                /* ConflictingUpdateOperators */
    { 46, TURNED, NULL },                 /* LockBusy */
    { 48, REFUSES, NULL },                /* NamespaceExists */
    { 52, DOCUMENT, NULL },               /* DollarPrefixedFieldName */
    { 56, DOCUMENT, NULL },               /* EmptyFieldName */
    { 57, DOCUMENT, NULL },               /* DottedFieldName */
    { 59, REFUSES, NULL },                /* CommandNotFound */
    { 66, DOCUMENT, NULL },               /* ImmutableField */
    { 67, REFUSES, NULL },                /* CannotCreateIndex */
    { 72, REFUSES, NULL },                /* InvalidOptions */
    { 73, REFUSES, NULL },                /* InvalidNamespace */
    { 85, REFUSES, INDEX },               /* IndexOptionsConflict */
    { 86, REFUSES, INDEX },               /* IndexKeySpecsConflict */
    { 112, TURNED, NULL },                /* WriteConflict */
    { 115, REFUSES, NULL },               /* CommandNotSupported */
    { 121, DOCUMENT, "a rule of the collection refuses the document" },
    { 166, REFUSES, NULL },               /* CommandNotSupportedOnView */
    { 168, REFUSES, NULL },               /* InvalidPipelineOperator */
    { 197, REFUSES, NULL },               /* InvalidIndexSpecificationOption */
    { 238, REFUSES, NULL },               /* NotImplemented */
    { 291, REFUSES, INDEX },              /* NoQueryExecutionPlans */
    { 323, REFUSES, NULL },               /* APIStrictError */
    { 391, BEFORE, LOGIN },               /* ReauthenticationRequired */
    { 10003, DOCUMENT, NULL },            /* CannotGrowDocumentInCappedNamespace */
    { 10058, TURNED, PRIMARY },           /* LegacyNotPrimary */
    { 10107, TURNED, PRIMARY },           /* NotWritablePrimary */
    { 10334, DOCUMENT, "a document has at most 16 MiB" },
    { 11000, TWICE, NULL },
    { 11001, TWICE, NULL },
    { 12582, TWICE, NULL },
    { 13435, TURNED, PRIMARY },           /* NotPrimaryNoSecondaryOk */
    { 14031, TURNED, DISK },              /* OutOfDiskSpace */
    { 17419, DOCUMENT, "a document has at most 16 MiB" },
    { 17420, DOCUMENT, "a document has at most 16 MiB" },
    { 40324, REFUSES, NULL },             /* unrecognised pipeline stage */
    { 40415, REFUSES, NULL },             /* unknown field of a command */
};

static const struct known *find_known(uint32_t code)
{
    for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
        if (known[i].code == code)
            return &known[i];
    return NULL;
}

static exj_code verdict_of_server(uint32_t code, uint32_t labels, exj_mongo_kind kind)
{
    exj_code doubt = kind == EXJ_MONGO_READ ? EXJ_IO : EXJ_UNKNOWN;
    exj_code many = kind == EXJ_MONGO_WRITE_MANY ? EXJ_UNKNOWN : EXJ_OK;
    const struct known *k = find_known(code);

    if (labels & EXJ_MONGO_LABEL_HINT && k && k->sort == DOCUMENT)
        return EXJ_REFUSED;
    if (!k)
        return doubt;
    switch (k->sort) {
    case BEFORE:
        return EXJ_IO;
    case TURNED:
        return many ? many : EXJ_IO;
    case REFUSES:
        return EXJ_REFUSED;
    case DOCUMENT:
        return many ? many : EXJ_REFUSED;
    case TWICE:
        return many ? many : EXJ_CONFLICT;
    }
    return doubt;
}

static exj_code verdict_of(uint32_t domain, uint32_t code, uint32_t labels, exj_mongo_kind kind)
{
    exj_code doubt = kind == EXJ_MONGO_READ ? EXJ_IO : EXJ_UNKNOWN;

    switch (domain) {
    case MONGOC_ERROR_SERVER:
        return verdict_of_server(code, labels, kind);
    case MONGOC_ERROR_STREAM:
        /* Broken off before a connection stood; anything later may have carried the command. */
        return code == MONGOC_ERROR_STREAM_NAME_RESOLUTION ||
                       code == MONGOC_ERROR_STREAM_CONNECT ||
                       code == MONGOC_ERROR_STREAM_NOT_ESTABLISHED
                   ? EXJ_IO
                   : doubt;
    case MONGOC_ERROR_SERVER_SELECTION:
    case MONGOC_ERROR_PROTOCOL:
    case MONGOC_ERROR_COMMAND:
        if (code == MONGOC_ERROR_PROTOCOL_BAD_WIRE_VERSION ||
            code == MONGOC_ERROR_SERVER_SELECTION_BAD_WIRE_VERSION)
            return EXJ_REFUSED;
        if (domain == MONGOC_ERROR_SERVER_SELECTION)
            return EXJ_IO;
        return domain == MONGOC_ERROR_COMMAND ? EXJ_BUG : doubt;
    case MONGOC_ERROR_SASL:
    case MONGOC_ERROR_SCRAM:
        return EXJ_IO;
    case MONGOC_ERROR_CLIENT:
        if (code == MONGOC_ERROR_CLIENT_TOO_BIG)
            return EXJ_REFUSED;
        return code == MONGOC_ERROR_CLIENT_AUTHENTICATE ||
                       code == MONGOC_ERROR_CLIENT_NOT_READY ||
                       code == MONGOC_ERROR_CLIENT_NO_ACCEPTABLE_PEER ||
                       code == MONGOC_ERROR_CLIENT_SESSION_FAILURE
                   ? EXJ_IO
                   : doubt;
    case MONGOC_ERROR_BSON:
    case MONGOC_ERROR_NAMESPACE:
        return EXJ_BUG;
    default:
        return doubt;
    }
}

exj_code exj_mongo_verdict(uint32_t domain, uint32_t code, uint32_t labels,
                           exj_mongo_kind kind)
{
    exj_code rc = verdict_of(domain, code, labels, kind);

    if (kind == EXJ_MONGO_READ)
        return rc;
    if (rc == EXJ_UNKNOWN && labels & EXJ_MONGO_LABEL_NO_WRITES &&
        domain == MONGOC_ERROR_SERVER)
        return EXJ_IO;
    /* What the driver would have sent again may have been applied the first time. */
    if (rc == EXJ_IO && labels & EXJ_MONGO_LABEL_RETRYABLE &&
        !(labels & EXJ_MONGO_LABEL_NO_WRITES))
        return EXJ_UNKNOWN;
    return rc;
}

const char *exj_mongo_advice(uint32_t domain, uint32_t code, uint32_t labels)
{
    const struct known *k;

    switch (domain) {
    case MONGOC_ERROR_SERVER:
        k = find_known(code);
        return labels & EXJ_MONGO_LABEL_HINT ? INDEX : k ? k->advice : NULL;
    case MONGOC_ERROR_SASL:
    case MONGOC_ERROR_SCRAM:
        return LOGIN;
    case MONGOC_ERROR_CLIENT:
        return code == MONGOC_ERROR_CLIENT_AUTHENTICATE ? LOGIN : NULL;
    case MONGOC_ERROR_SERVER_SELECTION:
        return code == MONGOC_ERROR_SERVER_SELECTION_BAD_WIRE_VERSION
                   ? "MongoDB 4.2 or later is wanted"
                   : "check that the servers of MONGO_URI run and can be reached from here";
    case MONGOC_ERROR_PROTOCOL:
        return code == MONGOC_ERROR_PROTOCOL_BAD_WIRE_VERSION ? "MongoDB 4.2 or later is wanted"
                                                              : NULL;
    default:
        return NULL;
    }
}

exj_code exj_mongo_graver(exj_code a, exj_code b)
{
    static const exj_code order[] = { EXJ_UNKNOWN, EXJ_BUG,      EXJ_REFUSED, EXJ_IO,
                                      EXJ_CONFLICT };

    for (size_t i = 0; i < sizeof(order) / sizeof(*order); i++)
        if (a == order[i] || b == order[i])
            return order[i];
    return a != EXJ_OK ? a : b;
}

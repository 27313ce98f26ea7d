// @NAME@ - a source resolver: yields a record for each of `names` in the matrix's
// payload.input. Change execute to read your files, tables or pages.
//
// What each function may do and when is said in exellix/plugin.h. No exception may cross
// the border: the functions that the host calls catch all.
#include <cstdlib>
#include <new>
#include <stdexcept>
#include <string>

#include "exellix/json.h"
#include "exellix/plugin.h"

namespace {

struct resolver {
    const exj_host *host; // valid until destroy returns
};

exj_result create(const exj_host *host, exj_str, void **instance)
{
    resolver *s = new (std::nothrow) resolver{ host };

    if (!s)
        return EXJ_R_RETRY;
    *instance = s;
    return EXJ_R_OK;
}

void destroy(void *instance)
{
    delete static_cast<resolver *>(instance);
}

// The id is what makes a record new or known: unique within the matrix, for ever.
std::string record_of(exj_str name)
{
    const std::string text(name.p, name.n);

    return R"({"id":)" + text + R"(,"record":{"name":)" + text + "}}";
}

exj_result fail(const exj_host *host, exj_call call, exj_result r, const char *code,
                const char *why)
{
    host->error(host->ctx, call, r, exj_text(code), exj_text(why));
    return r;
}

// All records of one cycle. emit may wait; when it does not answer OK, return that.
exj_result execute(void *instance, exj_call call, const exj_args *args)
{
    const exj_host *host = static_cast<resolver *>(instance)->host;
    exj_str names = EXJ_STR("[\"Ada\",\"Grace\"]"), name;

    try {
        if (exj_json_find(args->model, "names", &names) && exj_json_type(names) != '[')
            return fail(host, call, EXJ_R_INPUT, "NamesWrong", "`names` is no array");
        exj_json_cursor at = exj_json_elements(names);

        while (exj_json_next_element(&at, &name)) {
            if (exj_json_type(name) != '"')
                return fail(host, call, EXJ_R_INPUT, "NamesWrong", "a name is no text");
            const std::string json = record_of(name);
            const exj_result r =
                host->emit(host->ctx, call, exj_str{ json.data(), json.size() });

            if (r != EXJ_R_OK)
                return r;
        }
        return EXJ_R_OK;
    } catch (const std::exception &e) {
        return fail(host, call, EXJ_R_RETRY, "Exception", e.what());
    } catch (...) {
        return fail(host, call, EXJ_R_INTERNAL, "Exception", "of an unknown type");
    }
}

const exj_plugin plugin = {
    EXJ_SIZE(exj_plugin, destroy), EXJ_KIND_SOURCE_RESOLVER, EXJ_FLAG_CONCURRENT, 0,
    "@NAME@", "0.1.0",
    EXJ_STR("{\"summary\":\"yields a record for each name\",\"config\":{},"
            "\"input\":{\"names\":\"array of text\"}}"),
    create, execute, destroy, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr,
};
const exj_plugin *const plugins[] = { &plugin };
const exj_bundle bundle = { EXJ_SIZE(exj_bundle, plugins), EXJ_ABI_MINOR, 1, 0, plugins };

} // namespace

EXJ_PLUGIN_EXPORT(bundle, 1u << EXJ_KIND_SOURCE_RESOLVER, EXJ_FLAG_CONCURRENT)

// @NAME@ - a graph engine: greets the `name` of each record. Change greet to do your work.
//
// What each function may do and when is said in exellix/plugin.h. No exception may cross
// the border: the three functions that the host calls catch all.
#include <cstdlib>
#include <new>
#include <stdexcept>
#include <string>

#include "exellix/json.h"
#include "exellix/plugin.h"

namespace {

struct refused : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct engine {
    const exj_host *host; // valid until destroy returns
};

// The record is runtime.input; what comes back is the answer.
std::string greet(exj_str runtime)
{
    exj_str input, name;

    if (!exj_json_find(runtime, "input", &input) || !exj_json_find(input, "name", &name) ||
        exj_json_type(name) != '"')
        throw refused("the record has no `name` that is a text");
    return R"({"status":"completed","outputsByNodeId":{"hello":{"greeted":)" +
           std::string(name.p, name.n) + "}}}";
}

exj_result create(const exj_host *host, exj_str, void **instance)
{
    engine *e = new (std::nothrow) engine{ host };

    if (!e)
        return EXJ_R_RETRY;
    *instance = e;
    return EXJ_R_OK;
}

void destroy(void *instance)
{
    delete static_cast<engine *>(instance);
}

exj_result fail(const exj_host *host, exj_call call, exj_result r, const char *code,
                const char *why)
{
    host->error(host->ctx, call, r, exj_text(code), exj_text(why));
    return r;
}

// Several threads may be in here at once, because the flags below say EXJ_FLAG_CONCURRENT.
exj_result execute(void *instance, exj_call call, const exj_args *args)
{
    const exj_host *host = static_cast<engine *>(instance)->host;

    try {
        const exj_result asked = host->cancelled(host->ctx, call);

        if (asked != EXJ_R_OK)
            return asked; // work that takes long asks now and then
        const std::string answer = greet(args->runtime);

        return host->emit(host->ctx, call, exj_str{ answer.data(), answer.size() });
    } catch (const refused &e) {
        return fail(host, call, EXJ_R_INPUT, "NameMissing", e.what());
    } catch (const std::exception &e) {
        return fail(host, call, EXJ_R_RETRY, "Exception", e.what());
    } catch (...) {
        return fail(host, call, EXJ_R_INTERNAL, "Exception", "of an unknown type");
    }
}

exj_result self_test(void *, exj_call)
{
    return EXJ_R_OK; // asked before this file takes the place of an older one
}

const exj_plugin plugin = {
    EXJ_SIZE(exj_plugin, self_test), EXJ_KIND_GRAPH_ENGINE, EXJ_FLAG_CONCURRENT, 0,
    "@NAME@", "0.1.0",
    EXJ_STR("{\"summary\":\"greets each record\",\"config\":{},"
            "\"input\":{\"name\":\"text\"}}"),
    create, execute, destroy, nullptr, self_test, nullptr, nullptr, nullptr, nullptr,
};
const exj_plugin *const plugins[] = { &plugin };
const exj_bundle bundle = { EXJ_SIZE(exj_bundle, plugins), EXJ_ABI_MINOR, 1, 0, plugins };

} // namespace

EXJ_PLUGIN_EXPORT(bundle, 1u << EXJ_KIND_GRAPH_ENGINE, EXJ_FLAG_CONCURRENT)

/* Every allocation of the engine fails once: the row is given back for another attempt,
 * nothing stays behind, and the next row is well. jansson's own allocations are left alone:
 * when its lexer cannot grow, 2.14 drops a byte and goes on, which no caller can see. */
#include "tests/plugins/ffi/host.h"

#include "tests/support/fault.h"

/* Linked into this program, so that its allocations pass through the fault. */
const exj_bundle *exellix_plugin_v1(uint32_t host_minor);

static const char model[] = MANIFEST(
    POINT "\"handles\":{\"counter\":{\"close\":\"ft_close\"}},",
    "{\"node\":\"open\",\"symbol\":\"ft_open\",\"args\":[{\"from\":\"input.start\",\"type\":\"i32\"},"
    "{\"out\":\"c\",\"type\":\"handle:counter\"}],\"returns\":{\"type\":\"i32\",\"success\":\"== 0\"}},"
    "{\"node\":\"say\",\"symbol\":\"ft_complain\",\"args\":[{\"value\":\"\",\"type\":\"str\"},"
    "{\"out\":\"why\",\"type\":\"str\",\"owner\":\"free:ft_free\"}],\"returns\":{\"type\":\"i32\"}},"
    "{\"node\":\"text\",\"symbol\":\"ft_new_text\",\"args\":[{\"from\":\"nodes.say.why\","
    "\"type\":\"str\"}],\"returns\":{\"type\":\"str\",\"owner\":\"free:ft_free\"}},"
    "{\"node\":\"bytes\",\"symbol\":\"ft_sum\",\"args\":[{\"from\":\"input.b\",\"type\":\"bytes\"},"
    "{\"lengthOf\":0,\"type\":\"u64\"}],\"returns\":{\"type\":\"u64\"}},"
    "{\"node\":\"point\",\"symbol\":\"ft_mirror\",\"args\":[{\"from\":\"input.p\","
    "\"type\":\"struct:point\"}],\"returns\":{\"type\":\"struct:point\"}},"
    "{\"node\":\"fill\",\"symbol\":\"ft_fill\",\"args\":[{\"outBytes\":\"x\",\"capacity\":3},"
    "{\"capacityOf\":0,\"type\":\"u64\"}],\"returns\":{\"type\":\"void\"}},"
    "{\"node\":\"alive\",\"symbol\":\"ft_alive_now\",\"args\":[],\"returns\":{\"type\":\"i32\"}}");

static const char input[] = "{\"start\":1,\"b\":\"AAEC\",\"p\":{\"x\":1,\"y\":2,\"weight\":3,"
                            "\"mode\":\"safe\"}}";

static const char answer[] =
    "{\"open\":{\"return\":0,\"c\":\"handle:counter#1\"},\"say\":{\"return\":0,\"why\":\"<>\"},"
    "\"text\":{\"return\":\"<<>>\"},\"bytes\":{\"return\":3},\"point\":{\"return\":{\"x\":2,\"y\":1,"
    "\"weight\":-3,\"mode\":\"safe\"}},\"fill\":{\"x\":\"eHh4\"},\"alive\":{\"return\":1}}";

static void one_failure_each(const struct guest *g, bool fresh)
{
    long n, refused = 0;

    for (n = 1;; n++) {
        struct guest own = { .plugin = exellix_plugin_v1(EXJ_ABI_MINOR)->plugins[0] };
        struct said s = { 0 };
        long seen;

        /* Without another instance the manifest is read anew each time. */
        if (fresh)
            cr_assert_eq(own.plugin->create(&test_host, exj_text("{}"), &own.instance), EXJ_R_OK);
        exj_fault_arm(n);
        ask_into(fresh ? &own : g, model, input, &s);
        seen = exj_fault_disarm();
        if (fresh)
            guest_close(&own);
        if (s.result == EXJ_R_OK)
            cr_assert_str_eq(s.answer, answer);
        else
            cr_assert_eq(s.result, EXJ_R_RETRY, "allocation %ld: %s: %s", n, s.code, s.text);
        refused += s.result != EXJ_R_OK;
        free(s.answer);
        if (seen < n) {
            cr_assert_eq(s.result, EXJ_R_OK);
            break;
        }
    }
    cr_assert(refused == n - 1 && refused > 10, "%ld of %ld refused", refused, n - 1);
}

Test(ffi_memory, each_allocation_of_a_first_row_may_fail)
{
    one_failure_each(NULL, true);
}

Test(ffi_memory, each_allocation_of_a_later_row_may_fail)
{
    struct guest g = { .plugin = exellix_plugin_v1(EXJ_ABI_MINOR)->plugins[0] };
    struct said s = { 0 };

    cr_assert_eq(g.plugin->create(&test_host, exj_text("{}"), &g.instance), EXJ_R_OK);
    ask_into(&g, model, input, &s);
    cr_assert_str_eq(s.answer, answer);
    free(s.answer);
    one_failure_each(&g, false);
    guest_close(&g);
}

Test(ffi_memory, an_instance_needs_memory)
{
    const exj_plugin *p = exellix_plugin_v1(EXJ_ABI_MINOR)->plugins[0];
    void *instance = NULL;

    exj_fault_arm(1);
    cr_assert_eq(p->create(&test_host, exj_text("{}"), &instance), EXJ_R_RETRY);
    exj_fault_disarm();
    cr_assert_null(instance);
}

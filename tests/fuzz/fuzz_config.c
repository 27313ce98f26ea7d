/* Config documents: whatever is accepted prints a canonical form that is accepted again and
 * prints the same. */
#include <stdlib.h>

#include "core/job/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void again(const exj_buf *first, bool graph)
{
    exj_graph_config g = { 0 };
    exj_matrix_config m = { 0 };
    exj_buf second = EXJ_BUF_INIT;
    exj_slice none = { 0 };
    exj_code rc = graph ? exj_graph_config_parse(exj_buf_slice(first), none, &g, &second, NULL)
                        : exj_matrix_config_parse(exj_buf_slice(first), none, &m, &second, NULL);

    if (rc != EXJ_OK || !exj_slice_equal(exj_buf_slice(first), exj_buf_slice(&second)))
        abort();
    exj_buf_release(&second);
    exj_graph_config_release(&g);
    exj_matrix_config_release(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    exj_slice text = { (const char *)data, size }, none = { 0 };
    exj_graph_config g = { 0 };
    exj_matrix_config m = { 0 };
    exj_buf canonical = EXJ_BUF_INIT;

    if (exj_graph_config_parse(text, none, &g, &canonical, NULL) == EXJ_OK)
        again(&canonical, true);
    exj_graph_config_release(&g);
    exj_buf_reset(&canonical);
    if (exj_matrix_config_parse(text, none, &m, &canonical, NULL) == EXJ_OK)
        again(&canonical, false);
    exj_matrix_config_release(&m);
    exj_buf_release(&canonical);
    return 0;
}

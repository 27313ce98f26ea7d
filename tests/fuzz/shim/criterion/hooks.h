/* Hooks do not run under the fuzzer. */
#ifndef EXJ_TESTS_FUZZ_SHIM_HOOKS_H
#define EXJ_TESTS_FUZZ_SHIM_HOOKS_H

#define ReportHook(kind) __attribute__((unused)) static void report_hook_##kind

#endif /* EXJ_TESTS_FUZZ_SHIM_HOOKS_H */

/* What minor 1 of the plugin ABI added. */
NUMBER(EXJ_FLAG_REPLAYABLE, unsigned, 32u)

/* What minor 2 of the plugin ABI added. */
NUMBER(EXJ_KIND_EVENT_SINK, unsigned, 3u)
NUMBER(EXJ_SINK_EVENTS, unsigned, 100u)
NUMBER(EXJ_SINK_BYTES, unsigned, 1048576u)

-- Broadcasts a JSON payload when the transaction commits. Trouble is a warning: a message that cannot be sent must not
-- undo the work that it reports.
CREATE OR REPLACE FUNCTION realtime.send(payload jsonb, event text, topic text, private boolean DEFAULT true)
    RETURNS void
    LANGUAGE plpgsql
AS $$
DECLARE
    message uuid := pg_catalog.gen_random_uuid();
    content jsonb := send.payload;
BEGIN
    IF pg_catalog.jsonb_typeof(content) = 'object' AND NOT content ? 'id' THEN
        content := content || pg_catalog.jsonb_build_object('id', message);
    END IF;
    PERFORM pg_catalog.set_config('realtime.topic', send.topic, true);
    INSERT INTO realtime.messages (id, payload, event, topic, private, extension)
    VALUES (message, content, send.event, send.topic, send.private, 'broadcast');
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'WarnSendingBroadcastMessage: %', SQLERRM;
END
$$;

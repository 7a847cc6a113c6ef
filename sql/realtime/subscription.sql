-- Who wants which changes. Rowcast keeps its subscriptions in memory and does not write here; the table stands for
-- scripts that read or fill it.
CREATE TABLE realtime.subscription (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subscription_id uuid NOT NULL,
    entity regclass NOT NULL,
    filters realtime.user_defined_filter[] NOT NULL DEFAULT '{}',
    claims jsonb NOT NULL,
    claims_role regrole NOT NULL GENERATED ALWAYS AS (realtime.to_regrole(claims ->> 'role')) STORED,
    created_at timestamp NOT NULL DEFAULT pg_catalog.timezone('UTC', pg_catalog.now()),
    action_filter text DEFAULT '*' CHECK (action_filter IN ('*', 'INSERT', 'UPDATE', 'DELETE')),
    selected_columns text[]
);

CREATE UNIQUE INDEX subscription_once ON realtime.subscription
    (subscription_id, entity, filters, action_filter, coalesce(selected_columns, '{}'));

CREATE INDEX subscription_entity ON realtime.subscription (entity);

CREATE TRIGGER tr_check_filters
    BEFORE INSERT OR UPDATE ON realtime.subscription
    FOR EACH ROW EXECUTE FUNCTION realtime.subscription_check_filters();

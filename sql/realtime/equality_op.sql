-- The operators of a subscription's filter.
CREATE TYPE realtime.equality_op AS ENUM (
    'eq', 'neq', 'lt', 'lte', 'gt', 'gte', 'in', 'like', 'ilike', 'is', 'match', 'imatch', 'isdistinct'
);

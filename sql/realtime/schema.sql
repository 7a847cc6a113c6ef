CREATE SCHEMA realtime;

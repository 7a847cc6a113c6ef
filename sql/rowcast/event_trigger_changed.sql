DROP EVENT TRIGGER IF EXISTS rowcast_catalog_changed;
CREATE EVENT TRIGGER rowcast_catalog_changed ON ddl_command_end EXECUTE FUNCTION rowcast.catalog_changed();

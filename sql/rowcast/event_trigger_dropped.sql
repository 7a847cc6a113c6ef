DROP EVENT TRIGGER IF EXISTS rowcast_catalog_dropped;
CREATE EVENT TRIGGER rowcast_catalog_dropped ON sql_drop EXECUTE FUNCTION rowcast.catalog_changed();

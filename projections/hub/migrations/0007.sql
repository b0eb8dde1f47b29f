-- A log may be loaded after the ones that came later, so its number does not say how old it is. Of each window the newest log
-- that has it counts: the gateway's current one, then the one that ends last.
CREATE OR REPLACE VIEW gateway_aggregates AS
SELECT DISTINCT ON (l.gateway, a.device, a.attribute, a.length_s, a.start)
    l.gateway, a.device, a.attribute, a.length_s, a.start, a.count, a.min, a.max, a.sum / a.count AS mean, a.sum, a.last
FROM aggregates a JOIN logs l USING (log) JOIN gateways g ON g.gateway = l.gateway
ORDER BY l.gateway, a.device, a.attribute, a.length_s, a.start,
    coalesce(a.log = g.log, false) DESC, l.newest_time DESC NULLS LAST, a.log DESC;

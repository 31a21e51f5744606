    SELECT part.bucket AS bucket, part.code AS code, part.owner AS owner, part.split AS split{{item_key}}, {{folded}}
    FROM
    (
{{parts}}
    ) AS part
    GROUP BY bucket, code, owner, split{{item_key}}

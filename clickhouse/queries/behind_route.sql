-- What decides which filter an event belongs to: its values of the filters' keys, those that no filter names being none.
arrayMap((key, known) -> if(has(known, v.properties[key]), v.properties[key], ''), {route_keys:Array(String)}, {known_values:Array(Array(String))})

        SELECT cell.1, cell.2, cell.3, cell.4
        FROM (SELECT arrayJoin({cells:Array(Tuple(UUID, String, String, Int32))}) AS cell)
